"""Compare permuted and random trees with the true tree of one data set."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.tables import write_null_distances

    write_null_distances(
        snakemake.output[0],
        snakemake.input.dataset,
        snakemake.input.truth,
        snakemake.params.permutations,
        snakemake.params.code,
    )
