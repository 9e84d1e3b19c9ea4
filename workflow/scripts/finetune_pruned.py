"""Fine-tune the pruned networks of one (dataset, model, pruner, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.training.stages import finetune_pruned

    finetune_pruned(
        snakemake.input.dataset,
        snakemake.input.states,
        snakemake.input.masks,
        snakemake.output.checkpoints,
        snakemake.output.metrics,
        snakemake.params.network,
        snakemake.params.recipe,
        splits=snakemake.params.splits,
        seed=int(snakemake.wildcards.seed),
        code=snakemake.params.code,
        device=snakemake.config["device"],
        **snakemake.params.schedule,
    )
