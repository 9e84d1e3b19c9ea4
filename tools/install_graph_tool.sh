#!/usr/bin/env bash
# Make graph-tool available to the nested_sbm detector. PyPI does not offer it.
#
#   tools/install_graph_tool.sh
#
# The last line of standard output is the path of a Python that has graph-tool. Does nothing when
# one is there already. When none can be had it says so on standard error, prints nothing on
# standard output and still exits with 0, because everything but nested_sbm works without it.
set -eu

environment=espalier-graph-tool

say() { printf '%s\n' "$*" >&2; }

has_graph_tool() {
    "$1" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("graph_tool") and u.find_spec("numpy")))' \
        >/dev/null 2>&1
}

conda_command() {
    for name in mamba micromamba conda; do
        if command -v "$name" >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

candidates() {
    if [ -n "${ESPALIER_GRAPH_TOOL_PYTHON:-}" ]; then printf '%s\n' "$ESPALIER_GRAPH_TOOL_PYTHON"; fi
    type -ap python3 || true
    printf '%s\n' /usr/bin/python3
    if [ -n "${CONDA_PREFIX:-}" ]; then printf '%s\n' "$CONDA_PREFIX/bin/python3"; fi
    if [ -r "$HOME/.conda/environments.txt" ]; then sed 's|$|/bin/python3|' "$HOME/.conda/environments.txt"; fi
    for root in "${MAMBA_ROOT_PREFIX:-$HOME/micromamba}" "$HOME/miniforge3" "$HOME/mambaforge" \
        "$HOME/miniconda3" "$HOME/anaconda3" /opt/conda /opt/miniforge3; do
        printf '%s\n' "$root/bin/python3" "$root/envs/$environment/bin/python3"
    done
}

found_python() {
    while IFS= read -r python; do
        if [ -x "$python" ] && has_graph_tool "$python"; then
            printf '%s\n' "$python"
            return 0
        fi
    done <<EOF
$(candidates)
EOF
    return 1
}

if found_python; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "Installing python3-graph-tool with apt-get."
    if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends python3-graph-tool; } >&2; then
        if found_python; then exit 0; fi
    fi
    say "apt-get could not install python3-graph-tool."
fi

if manager=$(conda_command); then
    say "Creating the environment $environment from conda-forge with $manager."
    if "$manager" create -y -n "$environment" -c conda-forge --override-channels graph-tool >&2; then
        if found_python; then exit 0; fi
        # An environment in another place than the usual ones: ask the manager.
        if python=$("$manager" run -n "$environment" python3 -c 'import sys; print(sys.executable)') &&
            has_graph_tool "$python"; then
            say "Set graph_tool_python in the configuration to this path:"
            printf '%s\n' "$python"
            exit 0
        fi
    fi
    say "$manager could not install graph-tool."
fi

say "graph-tool is not installed, and this script could not install it. The nested_sbm detector will"
say "not run; everything else will. To get it: 'sudo apt-get install python3-graph-tool' on Debian or"
say "Ubuntu, or 'conda install -c conda-forge graph-tool'; then, if it is not found by itself, set"
say "graph_tool_python in the configuration. Or leave nested_sbm out of the detectors."
exit 0
