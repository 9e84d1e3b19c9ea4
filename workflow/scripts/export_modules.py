"""Write the hierarchy of modules of one trial as GraphML."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.sculpting.stages import export_hierarchy

    export_hierarchy(snakemake.input[0], int(snakemake.wildcards.seed), snakemake.output[0])
