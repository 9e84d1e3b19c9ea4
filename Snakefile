# The workflow itself is workflow/Snakefile; this file lets plain `snakemake` find it.
include: "workflow/Snakefile"


workflow.default_target = "all"
