"""Prune the networks of one (dataset, model, pruner, seed) at every sparsity."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.training.stages import prune_networks

    prune_networks(
        snakemake.input.dataset,
        snakemake.input.states,
        snakemake.output.masks,
        snakemake.wildcards.pruner,
        snakemake.params.network,
        snakemake.params.options,
        snakemake.params.sparsities,
        int(snakemake.wildcards.seed),
        snakemake.params.code,
    )
