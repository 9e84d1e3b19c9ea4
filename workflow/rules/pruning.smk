"""Pruned networks: before training; during it; after it, with regularisation and fine-tuning."""


rule prune_at_initialisation:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
    output:
        masks=collect(
            "<results>/masks/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    log:
        "<logs>/prune_at_initialisation/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/prune_at_initialisation/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    wildcard_constraints:
        pruner=any_of(pruners("before")),
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=4 * 60,
        gpu=GPUS,
    params:
        code=code_with_pruner("prune_at_initialisation"),
        network=network_of,
        recipe=recipe_of,
        splits=splits_of,
        pruning=scoring_of,
        sparsities=SETTINGS.sparsities,
    message:
        "Pruning {wildcards.model} on {wildcards.dataset} by {wildcards.pruner} before training, seed {wildcards.seed}"
    script:
        "../scripts/prune_at_initialisation.py"


rule train_pruned:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
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
        "<logs>/train_pruned/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/train_pruned/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    wildcard_constraints:
        pruner=any_of(pruners("before")),
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=24 * 60,
        gpu=GPUS,
    params:
        code=code_with_network("train_pruned"),
        network=network_of,
        recipe=recipe_of,
        splits=splits_of,
        last_checkpoint=LAST_CHECKPOINT,
    message:
        "Training {wildcards.model} on {wildcards.dataset} pruned by {wildcards.pruner}, seed {wildcards.seed}"
    script:
        "../scripts/train_pruned.py"


rule train_dynamic:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
    output:
        masks=collect(
            "<results>/masks/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
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
        "<logs>/train_dynamic/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/train_dynamic/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    wildcard_constraints:
        pruner=any_of(pruners("during")),
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=48 * 60,
        gpu=GPUS,
    params:
        code=code_with_pruner("train_dynamic"),
        network=network_of,
        recipe=recipe_of,
        splits=splits_of,
        pruning=rewiring_of,
        sparsities=SETTINGS.sparsities,
        last_checkpoint=LAST_CHECKPOINT,
    message:
        "Training {wildcards.model} on {wildcards.dataset} with {wildcards.pruner}, seed {wildcards.seed}"
    script:
        "../scripts/train_dynamic.py"


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
    wildcard_constraints:
        pruner=any_of(pruners("after")),
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
    wildcard_constraints:
        pruner=any_of(pruners("after")),
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code_with_pruner("prune_networks"),
        network=network_of,
        recipe=recipe_of,
        splits=splits_of,
        pruning=scoring_of,
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
    wildcard_constraints:
        pruner=any_of(pruners("after")),
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
