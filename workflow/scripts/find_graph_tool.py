"""Find a Python that has graph-tool, and write its version."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.files import write_json
    from espalier.hierarchy.graph_tool_python import find_graph_tool_python, graph_tool_version

    python = find_graph_tool_python(snakemake.config["graph_tool_python"])
    write_json(snakemake.output[0], {"graph_tool": graph_tool_version(python)})
