"""Draw one trained network of the hub study with its hubs."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.drawing import draw_hub_network

    draw_hub_network(
        snakemake.input.weights,
        snakemake.input.centrality,
        [snakemake.output.svg, snakemake.output.png],
    )
