"""Gather the density of every layer of the project's own networks."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import tabulate_layers

    tabulate_layers(
        snakemake.input.topometrics,
        snakemake.input.masks,
        snakemake.output[0],
        snakemake.params.code,
    )
