"""Predict every network out of fold, candidates chosen by inner validation."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import predict_out_of_fold

    predict_out_of_fold(
        snakemake.input.topometrics,
        snakemake.input.layers,
        snakemake.output[0],
        snakemake.wildcards.protocol,
        snakemake.params.design,
        snakemake.params.options,
        snakemake.params.code,
    )
