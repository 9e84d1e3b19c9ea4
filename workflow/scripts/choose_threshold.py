"""Choose the threshold of one search of CenSET."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hubs.tables import choose_threshold

    choose_threshold(snakemake.input, snakemake.output[0], snakemake.params.code)
