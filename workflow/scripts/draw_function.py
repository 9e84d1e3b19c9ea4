"""Draw one function graph."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.drawing import draw_function

    draw_function(snakemake.params.function, [snakemake.output.svg, snakemake.output.png])
