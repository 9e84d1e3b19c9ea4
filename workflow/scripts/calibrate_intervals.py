"""Measure how often the predictor's intervals hold what they should."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import calibrate_intervals

    calibrate_intervals(
        snakemake.input.topometrics,
        snakemake.output[0],
        snakemake.params.design,
        snakemake.params.options,
        snakemake.params.code,
    )
