"""Gather the trials of Neural Sculpting in tables."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.sculpting.tables import write_module_tables

    write_module_tables(
        snakemake.input,
        *snakemake.output,
        snakemake.params.settings,
        snakemake.params.code,
    )
