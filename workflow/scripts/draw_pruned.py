"""Draw one pruned network and its modules."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.drawing import draw_pruned

    draw_pruned(
        snakemake.input[0],
        int(snakemake.wildcards.seed),
        [snakemake.output.svg, snakemake.output.png],
    )
