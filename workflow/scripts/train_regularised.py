"""Train with the regulariser, up to the pruning epoch, for one (dataset, model, pruner, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.training.stages import train_regularised

    train_regularised(
        snakemake.input.dataset,
        snakemake.output.states,
        snakemake.params.network,
        snakemake.params.recipe,
        **snakemake.params.schedule,
        splits=snakemake.params.splits,
        seed=int(snakemake.wildcards.seed),
        code=snakemake.params.code,
        device=snakemake.config["device"],
    )
