"""Data sets in one prepared form."""


rule prepare_dataset:
    input:
        source_files,
    output:
        "<resources>/datasets/{dataset}.npz",
    log:
        "<logs>/prepare_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/prepare_dataset/{dataset}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code_of("prepare_dataset"),
        options=dataset_options,
    message:
        "Preparing the data set {wildcards.dataset}"
    script:
        "../scripts/prepare_dataset.py"
