"""Gather the distances of all networks in one table."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.tables import write_rf

    write_rf(snakemake.output[0], snakemake.input, snakemake.params.settings, snakemake.params.code)
