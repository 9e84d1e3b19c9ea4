"""Write one co-activation graph as GraphML."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.graphs.coactivation import read_coactivation
    from espalier.graphs.graphml import write_graphml

    write_graphml(snakemake.output[0], read_coactivation(snakemake.input[0]))
