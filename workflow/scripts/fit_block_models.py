"""Fit nested block models to the graphs of one (dataset, model, pruner, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.records import detect_networks

    detect_networks(
        "nested_sbm",
        snakemake.input.graphs,
        [],
        snakemake.output.trees,
        snakemake.output.records,
        snakemake.params.options,
        snakemake.params.code,
        python=snakemake.config["graph_tool_python"],
    )
