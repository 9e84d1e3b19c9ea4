"""Compare every printed cell with ours."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import compare_with_papers

    compare_with_papers(
        snakemake.input.regression,
        snakemake.input.trimmed,
        snakemake.input.ablation,
        snakemake.input.classification,
        snakemake.input.ranking,
        snakemake.output.cells,
        snakemake.output.summary,
        snakemake.params.code,
    )
