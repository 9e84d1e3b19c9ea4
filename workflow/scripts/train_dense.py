"""Train the dense network of one (dataset, model, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.training.stages import train_dense

    train_dense(
        snakemake.input.dataset,
        snakemake.output.checkpoints,
        snakemake.output.metrics,
        snakemake.params.network,
        snakemake.params.recipe,
        snakemake.params.splits,
        int(snakemake.wildcards.seed),
        snakemake.params.code,
        snakemake.config["device"],
    )
