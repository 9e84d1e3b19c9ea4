"""Read the class hierarchies of the networks of one (dataset, model, pruner, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.records import detect_networks

    detect_networks(
        snakemake.wildcards.detector,
        snakemake.input.graphs,
        snakemake.input.readouts,
        snakemake.output.trees,
        snakemake.output.records,
        snakemake.params.options,
        snakemake.params.code,
    )
