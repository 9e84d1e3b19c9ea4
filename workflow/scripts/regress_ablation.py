"""Regress the accuracy drop by data set, and on sparsity or architecture alone."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import regress_ablation

    regress_ablation(
        snakemake.input.topometrics,
        snakemake.output[0],
        snakemake.params.design,
        snakemake.params.options,
        snakemake.params.code,
    )
