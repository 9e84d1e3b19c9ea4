"""Class hierarchies of every network, and their distances to the true tree."""


rule find_graph_tool:
    output:
        "<resources>/graph_tool.json",
    log:
        "<logs>/find_graph_tool.log",
    # First of all: to find out after hours of training that it is missing would be late.
    priority: 100
    conda:
        "../../envs/sbm.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("find_graph_tool"),
    message:
        "Looking for a Python that has graph-tool"
    script:
        "../scripts/find_graph_tool.py"


rule fit_block_models:
    input:
        graph_tool="<resources>/graph_tool.json",
        graphs=collect(
            "<results>/coactivation/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.npz",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
    output:
        trees=collect(
            "<results>/hierarchy/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.nested_sbm.nwk",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
        records=collect(
            "<results>/hierarchy/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.nested_sbm.json",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
    log:
        "<logs>/fit_block_models/{dataset}/{model}/dense/seed{seed}.log",
    benchmark:
        "<benchmarks>/fit_block_models/{dataset}/{model}/dense/seed{seed}.tsv"
    conda:
        "../../envs/sbm.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=12 * 60,
    params:
        code=code_of(
            "fit_block_models",
            "hierarchy.detectors.nested_sbm",
            "hierarchy._graph_tool_worker",
        ),
        options=detector_options,
    message:
        "Fitting block models of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/fit_block_models.py"


use rule fit_block_models as fit_pruned_block_models with:
    input:
        graph_tool="<resources>/graph_tool.json",
        graphs=collect(
            "<results>/coactivation/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    output:
        trees=collect(
            "<results>/hierarchy/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.nested_sbm.nwk",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
        records=collect(
            "<results>/hierarchy/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.nested_sbm.json",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    log:
        "<logs>/fit_pruned_block_models/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/fit_pruned_block_models/{dataset}/{model}/{pruner}/seed{seed}.tsv"


use rule fit_block_models as fit_shuffled_block_models with:
    input:
        graph_tool="<resources>/graph_tool.json",
        graphs=[
            "<results>/coactivation/{dataset}/{model}/dense/0/seed{seed}.shuffled.npz"
        ],
    output:
        trees=[
            f"<results>/hierarchy/{{dataset}}/{{model}}/dense/0/seed{{seed}}.checkpoint{LAST_CHECKPOINT}.nested_sbm_shuffled.nwk"
        ],
        records=[
            f"<results>/hierarchy/{{dataset}}/{{model}}/dense/0/seed{{seed}}.checkpoint{LAST_CHECKPOINT}.nested_sbm_shuffled.json"
        ],
    log:
        "<logs>/fit_shuffled_block_models/{dataset}/{model}/dense/seed{seed}.log",
    benchmark:
        "<benchmarks>/fit_shuffled_block_models/{dataset}/{model}/dense/seed{seed}.tsv"


rule detect_hierarchies:
    input:
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
    output:
        trees=collect(
            "<results>/hierarchy/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.{detector}.nwk",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
        records=collect(
            "<results>/hierarchy/{dataset}/{model}/dense/0/seed{seed}.checkpoint{checkpoint}.{detector}.json",
            checkpoint=CHECKPOINTS,
            allow_missing=True,
        ),
    log:
        "<logs>/detect_hierarchies/{dataset}/{model}/dense/seed{seed}.{detector}.log",
    benchmark:
        "<benchmarks>/detect_hierarchies/{dataset}/{model}/dense/seed{seed}.{detector}.tsv"
    conda:
        "../../envs/hierarchy.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=4 * 60,
    params:
        code=detector_code,
        options=detector_options,
    message:
        "Reading hierarchies of {wildcards.model} on {wildcards.dataset} by {wildcards.detector}, seed {wildcards.seed}"
    script:
        "../scripts/detect_hierarchies.py"


use rule detect_hierarchies as detect_pruned_hierarchies with:
    input:
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
    output:
        trees=collect(
            "<results>/hierarchy/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.{detector}.nwk",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
        records=collect(
            "<results>/hierarchy/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.{detector}.json",
            sparsity=SPARSITIES,
            allow_missing=True,
        ),
    log:
        "<logs>/detect_pruned_hierarchies/{dataset}/{model}/{pruner}/seed{seed}.{detector}.log",
    benchmark:
        "<benchmarks>/detect_pruned_hierarchies/{dataset}/{model}/{pruner}/seed{seed}.{detector}.tsv"


rule compute_baselines:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        truth=truth_file,
    output:
        "<results>/baselines/{dataset}.npz",
    log:
        "<logs>/compute_baselines/{dataset}.log",
    benchmark:
        "<benchmarks>/compute_baselines/{dataset}.tsv"
    # First of all, because it finds a class tree whose leaves are not the classes.
    priority: 100
    conda:
        "../../envs/hierarchy.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("compute_baselines"),
        permutations=SETTINGS.distances.permutations,
    message:
        "Comparing the true tree of {wildcards.dataset} with permuted and random trees"
    script:
        "../scripts/compute_baselines.py"


rule compare_hierarchies:
    input:
        baselines="<results>/baselines/{dataset}.npz",
        metrics=metrics_files,
        trees=tree_files,
        records=hierarchy_files,
    output:
        "<results>/distances/{dataset}/{model}/{pruner}/seed{seed}.csv",
    log:
        "<logs>/compare_hierarchies/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/compare_hierarchies/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    conda:
        "../../envs/hierarchy.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("compare_hierarchies"),
    message:
        "Comparing hierarchies of {wildcards.model} ({wildcards.pruner}) on {wildcards.dataset} with the true tree, seed {wildcards.seed}"
    script:
        "../scripts/compare_hierarchies.py"
