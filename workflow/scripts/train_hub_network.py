"""Train one perceptron of the hub study."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hubs.stages import train_hub_network

    train_hub_network(
        snakemake.input.dataset,
        *snakemake.output,
        {key: snakemake.wildcards[key] for key in ("dataset", "model", "seed")},
        snakemake.params.run,
        snakemake.params.network,
        snakemake.params.recipe,
        snakemake.params.study,
        snakemake.params.code,
        snakemake.input.reference,
        snakemake.input.threshold,
    )
