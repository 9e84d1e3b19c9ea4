"""Draw one figure of one network."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.drawing import draw_network

    draw_network(
        snakemake.wildcards.figure,
        snakemake.input.graph,
        snakemake.input.hierarchy,
        snakemake.input.truth,
        [snakemake.output.svg, snakemake.output.png],
    )
