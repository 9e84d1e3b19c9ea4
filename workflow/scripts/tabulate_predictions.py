"""Gather out-of-fold predictions and score them, with intervals."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import tabulate_predictions

    tabulate_predictions(
        snakemake.input.topometrics,
        snakemake.input.parts,
        snakemake.output.predictions,
        snakemake.output.honest,
        snakemake.output.leave_one_out,
        snakemake.params.design,
        snakemake.params.options,
        snakemake.params.code,
    )
