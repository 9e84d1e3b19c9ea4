"""Train the networks of one (dataset, model, pruner, seed) that were pruned before training."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.training.stages import train_pruned

    train_pruned(
        snakemake.input.dataset,
        snakemake.input.masks,
        snakemake.output.checkpoints,
        snakemake.output.metrics,
        snakemake.params.network,
        snakemake.params.recipe,
        last_checkpoint=snakemake.params.last_checkpoint,
        splits=snakemake.params.splits,
        seed=int(snakemake.wildcards.seed),
        code=snakemake.params.code,
        device=snakemake.config["device"],
    )
