"""Measure how well strategies order pruners."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import rank_strategies

    rank_strategies(
        snakemake.input.topometrics,
        snakemake.input.layers,
        snakemake.input.predictions,
        snakemake.output.ranking,
        snakemake.output.overlaps,
        snakemake.output.ranks,
        snakemake.params.design,
        snakemake.params.options,
        snakemake.params.code,
    )
