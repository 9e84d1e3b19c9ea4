"""Compute the topometrics of the networks of one (dataset, model, pruner, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.topology.stages import compute_topometrics

    compute_topometrics(
        snakemake.input.dataset,
        snakemake.input.checkpoints,
        snakemake.input.masks,
        snakemake.output[0],
        snakemake.params.network,
        snakemake.params.encoding,
        snakemake.params.code,
    )
