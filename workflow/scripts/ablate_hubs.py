"""Remove the top, the bottom and random units of one trained perceptron."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hubs.tables import ablate_hubs

    ablate_hubs(*snakemake.input, snakemake.output[0], snakemake.params.code)
