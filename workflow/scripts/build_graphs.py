"""Build the co-activation graphs and readouts of one (dataset, model, pruner, seed)."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.graphs.stages import build_graphs

    build_graphs(
        snakemake.input.dataset,
        snakemake.input.checkpoints,
        snakemake.input.get("masks", []),
        snakemake.output.graphs,
        snakemake.output.readouts,
        snakemake.output.get("shuffled"),
        snakemake.params.network,
        snakemake.params.coactivation,
        int(snakemake.wildcards.seed),
        snakemake.params.code,
        snakemake.config["device"],
    )
