"""Read the class hierarchies of the networks of one (dataset, model, pruner, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.records import detect_and_record

    files = zip(
        snakemake.input.graphs if isinstance(snakemake.input.graphs, list) else [snakemake.input.graphs],
        snakemake.output.trees,
        snakemake.output.records,
        strict=True,
    )
