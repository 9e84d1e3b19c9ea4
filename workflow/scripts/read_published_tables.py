"""Read the tables published with the papers."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.prediction.stages import read_published_tables

    read_published_tables(
        list(snakemake.input),
        snakemake.params.problem,
        {
            "unrolled": snakemake.output.unrolled,
            "rolled": snakemake.output.rolled,
            "rolled-channel": snakemake.output.rolled_channel,
        },
        snakemake.output.layers,
        snakemake.output.report,
        snakemake.params.code,
    )
