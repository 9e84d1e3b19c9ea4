"""Train the networks of one (dataset, model, pruner, seed), pruning them while they train."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.training.stages import train_dynamic

    train_dynamic(
        snakemake.input.dataset,
        snakemake.output.masks,
        snakemake.output.checkpoints,
        snakemake.output.metrics,
        snakemake.params.network,
        snakemake.params.recipe,
        snakemake.params.pruning,
        snakemake.params.sparsities,
        last_checkpoint=snakemake.params.last_checkpoint,
        splits=snakemake.params.splits,
        seed=int(snakemake.wildcards.seed),
        code=snakemake.params.code,
        device=snakemake.config["device"],
    )
