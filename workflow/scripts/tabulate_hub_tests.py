"""Test whether hubs form, and gather the ablation curves."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hubs.tables import write_hub_tests

    write_hub_tests(
        snakemake.input.centrality,
        snakemake.input.ablations,
        *snakemake.output,
        snakemake.params.settings,
        snakemake.params.code,
    )
