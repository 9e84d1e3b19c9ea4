"""Write the graph of one pruned network."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.topology.stages import encode_network

    encode_network(
        snakemake.input.dataset,
        snakemake.input.checkpoint,
        snakemake.input.masks,
        snakemake.output[0],
        snakemake.params.network,
        snakemake.params.encoding,
        snakemake.params.code,
    )
