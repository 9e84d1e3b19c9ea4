"""Tell pruners, or their categories, apart by topology."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import classify_pruners

    classify_pruners(
        snakemake.input.topometrics,
        snakemake.input.layers,
        snakemake.output[0],
        snakemake.wildcards.target,
        snakemake.params.design,
        snakemake.params.acts,
        snakemake.params.options,
        snakemake.params.code,
    )
