"""Find and judge the modules of the networks of one variant, function and shape."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.sculpting.stages import detect_sculpted_modules

    detect_sculpted_modules(
        snakemake.input.networks,
        snakemake.input.record,
        snakemake.output[0],
        snakemake.params.function,
        snakemake.params.null_networks,
        snakemake.params.code,
    )
