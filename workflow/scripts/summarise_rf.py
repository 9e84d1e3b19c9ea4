"""Summarise the distances as the thesis' Tables 1 and 2 do."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.files import read_table, write_table
    from espalier.hierarchy.tables import summarise

    rf, baselines = read_table(snakemake.input.rf), read_table(snakemake.input.baselines)
    record = {**rf.attrs["provenance"], "code": snakemake.params.code}
    write_table(snakemake.output[0], summarise(rf, baselines), record)
