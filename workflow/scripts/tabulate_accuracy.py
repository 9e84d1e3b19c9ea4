"""Gather the accuracies of all networks in two tables."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.training.tables import write_accuracy

    write_accuracy(
        snakemake.output.accuracy,
        snakemake.output.networks,
        snakemake.input,
        snakemake.params.settings,
        snakemake.params.code,
    )
