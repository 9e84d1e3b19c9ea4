"""Gather the parts of the classification."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import gather_tables

    gather_tables(
        snakemake.input,
        snakemake.output[0],
        snakemake.params.code,
    )
