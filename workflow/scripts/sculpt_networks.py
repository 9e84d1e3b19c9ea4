"""Train and prune the networks of one variant, function and shape."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.sculpting.stages import sculpt_networks

    sculpt_networks(
        snakemake.output.networks,
        snakemake.output.record,
        snakemake.wildcards.variant,
        snakemake.params.function,
        snakemake.params.hidden,
        snakemake.params.recipe,
        snakemake.params.options,
        snakemake.config["mirrors"],
        snakemake.config["device"],
        snakemake.params.code,
    )
