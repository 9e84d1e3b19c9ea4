"""Draw one figure of the tables."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.drawing import draw_table

    draw_table(
        snakemake.wildcards.figure,
        snakemake.input.rf,
        snakemake.input.baselines,
        [snakemake.output.svg, snakemake.output.png],
    )
