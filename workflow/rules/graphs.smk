"""Co-activation graphs, and the readouts of the detectors that need no graph."""


rule build_graphs:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        checkpoints=collect(
            "<results>/checkpoints/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.safetensors",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
    output:
        graphs=collect(
            "<results>/coactivation/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.npz",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
        readouts=collect(
            "<results>/readout/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.npz",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
        shuffled="<results>/coactivation/{dataset}/{model}/dense/0/seed{seed}.shuffled.npz",
    log:
        "<logs>/build_graphs/{dataset}/{model}/dense/seed{seed}.log",
    benchmark:
        "<benchmarks>/build_graphs/{dataset}/{model}/dense/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=4 * 60,
        gpu=GPUS,
    params:
        code=code_with_network("build_graphs"),
        network=network_of,
        coactivation=SETTINGS.coactivation.model_dump(),
    message:
        "Building co-activation graphs of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/build_graphs.py"


use rule build_graphs as build_pruned_graphs with:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        checkpoints=collect(
            "<results>/checkpoints/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.safetensors",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
        masks=collect(
            "<results>/masks/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    output:
        graphs=collect(
            "<results>/coactivation/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
        readouts=collect(
            "<results>/readout/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    log:
        "<logs>/build_pruned_graphs/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/build_pruned_graphs/{dataset}/{model}/{pruner}/seed{seed}.tsv"


rule export_graphml:
    input:
        "<results>/coactivation/{network}.npz",
    output:
        "<results>/coactivation/{network}.graphml",
    log:
        "<logs>/export_graphml/{network}.log",
    conda:
        "../../envs/hierarchy.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code_of("export_graphml"),
    message:
        "Writing {output} for other graph programs"
    script:
        "../scripts/export_graphml.py"
