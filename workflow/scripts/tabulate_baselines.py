"""Gather what a star, permuted truths and random trees score."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.tables import write_baselines

    write_baselines(
        snakemake.output[0],
        dict(zip(snakemake.params.datasets, snakemake.input, strict=True)),
        snakemake.params.code,
    )
