"""Draw one figure of the tables."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.drawing import draw_table

    draw_table(
        snakemake.wildcards.figure,
        dict(zip(snakemake.params.tables, snakemake.input, strict=True)),
        [snakemake.output.svg, snakemake.output.png],
        **snakemake.params.options,
    )
