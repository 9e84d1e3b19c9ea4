"""Pruned networks as multipartite graphs: topometrics of all, and graphs on request."""


rule encode_network:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        checkpoint="<results>/checkpoints/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.safetensors",
        masks="<results>/masks/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
    output:
        "<results>/graphs/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.{form}",
    log:
        "<logs>/encode_network/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.{form}.log",
    conda:
        "../../envs/topology.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        code=code_with_network("encode_network"),
        network=network_of,
        encoding=SETTINGS.encoding.model_dump(),
    message:
        "Writing {output}"
    script:
        "../scripts/encode_network.py"


rule compute_topometrics:
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
        "<results>/topometrics/{dataset}/{model}/{pruner}/seed{seed}.csv",
    log:
        "<logs>/compute_topometrics/{dataset}/{model}/{pruner}/seed{seed}.log",
    benchmark:
        "<benchmarks>/compute_topometrics/{dataset}/{model}/{pruner}/seed{seed}.tsv"
    wildcard_constraints:
        pruner=any_of(SETTINGS.pruners),
    conda:
        "../../envs/topology.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=4 * 60,
    params:
        code=code_with_network("compute_topometrics"),
        network=network_of,
        encoding=SETTINGS.encoding.model_dump(),
    message:
        "Topometrics of {wildcards.model} on {wildcards.dataset} pruned by {wildcards.pruner}, seed {wildcards.seed}"
    script:
        "../scripts/compute_topometrics.py"
