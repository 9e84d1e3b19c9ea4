"""Regress the accuracy drop on feature sets, setting by setting."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import regress_drop

    regress_drop(
        snakemake.input.topometrics,
        snakemake.input.layers,
        snakemake.output[0],
        snakemake.wildcards.encoding,
        snakemake.wildcards.protocol,
        snakemake.wildcards.learner,
        snakemake.params.design,
        snakemake.params.options,
        snakemake.params.code,
    )
