"""Measure what predictors lean on."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import measure_importance

    measure_importance(
        snakemake.input.topometrics,
        snakemake.output[0],
        snakemake.wildcards.task,
        snakemake.params.design,
        snakemake.params.acts,
        snakemake.params.options,
        snakemake.params.code,
    )
