"""Gather the runs of the hub study in tables."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hubs.tables import write_hub_tables

    write_hub_tables(
        snakemake.input.records,
        snakemake.input.centrality,
        *snakemake.output,
        snakemake.params.settings,
        snakemake.params.code,
    )
