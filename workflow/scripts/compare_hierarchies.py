"""Compare the hierarchies of one (dataset, model, pruner, seed) with the true tree."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.tables import write_distances

    write_distances(
        snakemake.output[0],
        snakemake.input.baselines,
        snakemake.input.metrics,
        snakemake.input.trees,
        snakemake.input.records,
        snakemake.params.code,
    )
