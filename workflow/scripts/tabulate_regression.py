"""Gather the parts of the regression."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import tabulate_regression

    tabulate_regression(
        snakemake.input,
        snakemake.output.table,
        snakemake.output.trimmed,
        snakemake.output.cells,
        snakemake.output.means,
        bool(snakemake.wildcards.pool),
        snakemake.params.code,
    )
