"""Prune the networks of one (dataset, model, pruner, seed) at every sparsity."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.pruning.stages import prune_networks

    prune_networks(
        snakemake.input.dataset,
        snakemake.input.states,
        snakemake.output.masks,
        snakemake.params.network,
        snakemake.params.recipe,
        snakemake.params.pruning,
        snakemake.params.sparsities,
        splits=snakemake.params.splits,
        seed=int(snakemake.wildcards.seed),
        code=snakemake.params.code,
    )
