"""Dense networks and their checkpoints."""


rule train_dense:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
    output:
        checkpoints=collect(
            "<results>/checkpoints/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.safetensors",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
        metrics="<results>/metrics/{dataset}/{model}/dense/0/seed{seed}.json",
    log:
        "<logs>/train_dense/{dataset}/{model}/seed{seed}.log",
    benchmark:
        "<benchmarks>/train_dense/{dataset}/{model}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=24 * 60,
        gpu=GPUS,
    params:
        code=code_with_network("train_dense"),
        network=network_of,
        recipe=recipe_of,
        splits=splits_of,
    message:
        "Training {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/train_dense.py"
