"""Gather the topometrics and accuracies of all pruned networks in one table."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.topology.stages import write_topometrics

    write_topometrics(
        snakemake.output[0],
        snakemake.input.topometrics,
        snakemake.input.metrics,
        snakemake.params.settings,
        snakemake.params.code,
    )
