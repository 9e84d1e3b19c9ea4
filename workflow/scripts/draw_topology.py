"""Draw one figure of the graph of a pruned network."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.drawing import draw_topology

    draw_topology(
        snakemake.wildcards.figure,
        snakemake.input.graph,
        [snakemake.output.svg, snakemake.output.png],
    )
