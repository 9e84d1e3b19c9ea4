"""Prepare one data set as an NPZ of images and labels."""

from espalier.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from espalier.data import prepare, write_dataset
    from espalier.data.prepare import all_mirrors
    from espalier.provenance import provenance

    options = snakemake.params.options
    dataset = prepare(
        snakemake.wildcards.dataset,
        source=options["source"],
        path=options["path"],
        checksum=options["sha256"],
        image_size=options["image_size"],
        per_class=options["per_class"],
        mirrors=all_mirrors(snakemake.config["mirrors"]),
    )
    record = provenance(snakemake.params.code, options, None)
    write_dataset(snakemake.output[0], dataset, record)
