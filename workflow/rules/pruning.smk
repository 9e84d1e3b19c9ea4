"""Pruned networks: regularised training, one-shot pruning, fine-tuning."""


rule train_regularised:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
    output:
        states=collect(
            "<results>/regularised/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.safetensors",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    log:
        "<logs>/train_regularised/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/train_regularised/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=24 * 60,
        gpu=GPUS,
    params:
        code=code_with_network("train_regularised"),
        network=network_of,
        recipe=recipe_of,
        schedule=regularisation_of,
        splits=splits_of,
    message:
        "Training {wildcards.model} on {wildcards.dataset} for {wildcards.pruner}, seed {wildcards.seed}"
    script:
        "../scripts/train_regularised.py"


rule prune_networks:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        states=collect(
            "<results>/regularised/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.safetensors",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    output:
        masks=collect(
            "<results>/masks/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    log:
        "<logs>/prune_networks/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/prune_networks/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=pruner_code,
        network=network_of,
        options=pruner_options,
        sparsities=SETTINGS.sparsities,
    message:
        "Pruning {wildcards.model} on {wildcards.dataset} by {wildcards.pruner}, seed {wildcards.seed}"
    script:
        "../scripts/prune_networks.py"


rule finetune_pruned:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        states=collect(
            "<results>/regularised/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.safetensors",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
        masks=collect(
            "<results>/masks/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    output:
        checkpoints=collect(
            "<results>/checkpoints/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.safetensors",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
        metrics=collect(
            "<results>/metrics/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.json",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    log:
        "<logs>/finetune_pruned/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/finetune_pruned/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=24 * 60,
        gpu=GPUS,
    params:
        code=code_with_network("finetune_pruned"),
        network=network_of,
        recipe=recipe_of,
        schedule=finetuning_of,
        splits=splits_of,
    message:
        "Fine-tuning {wildcards.model} on {wildcards.dataset} pruned by {wildcards.pruner}, seed {wildcards.seed}"
    script:
        "../scripts/finetune_pruned.py"
