"""Make the page of one table."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.figures.table_page import write_table_page

    write_table_page(snakemake.output[0], snakemake.input[0])
