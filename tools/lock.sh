#!/usr/bin/env bash
# Write requirements.txt: every package that pyproject.toml and its extras need, at exact versions.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet ".[train,hierarchy,topology,prediction,figures,workflow,cluster,docs,notebooks,dev]" "hatchling>=1.27" editables
{
  echo "# Written by tools/lock.sh from pyproject.toml: exact versions, so that a set-up can be repeated."
  "$python" -m pip list --format=freeze --exclude pip --exclude setuptools --exclude wheel --exclude espalier |
    sed 's/+cpu$//'
} > requirements.txt
