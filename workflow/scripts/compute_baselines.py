"""Compare permuted and random trees with the true tree of one data set."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.hierarchy.tables import null_distributions
    from espalier.provenance import provenance

    permutations = snakemake.params.permutations
    record = provenance(snakemake.params.code, permutations, 0)
    null_distributions(snakemake.input.truth, permutations, snakemake.output[0], record)
