"""Prune the untrained network of one (dataset, model, pruner, seed) to every sparsity."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.pruning.stages import prune_at_initialisation

    prune_at_initialisation(
        snakemake.input.dataset,
        snakemake.output.masks,
        snakemake.params.network,
        snakemake.params.recipe,
        snakemake.params.pruning,
        snakemake.params.sparsities,
        splits=snakemake.params.splits,
        seed=int(snakemake.wildcards.seed),
        code=snakemake.params.code,
        device=snakemake.config["device"],
    )
