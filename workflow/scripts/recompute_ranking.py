"""Recompute the published tables of rank-biased overlaps."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import recompute_ranking

    recompute_ranking(
        snakemake.input.topometrics,
        snakemake.input.layers,
        snakemake.input.report,
        snakemake.output[0],
        snakemake.params.code,
    )
