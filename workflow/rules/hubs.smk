"""Hub neurons: perceptrons trained by SET, CenSET and their controls."""


rule train_hub_network:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        reference=hub_reference,
        threshold=hub_threshold,
    output:
        record="<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.json",
        centrality="<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.centrality.npz",
        weights="<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.weights.npz",
    log:
        "<logs>/train_hub_network/{dataset}/{model}/{hub_run}/seed{seed}.log",
    benchmark:
        "<benchmarks>/train_hub_network/{dataset}/{model}/{hub_run}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=24 * 60,
    params:
        code=code_with_network("train_hub_network"),
        network=network_of,
        run=hub_run_of,
        recipe=hub_recipe,
        study=hub_study,
    message:
        "Training {wildcards.model} on {wildcards.dataset} by {wildcards.hub_run}, seed {wildcards.seed}"
    script:
        "../scripts/train_hub_network.py"


rule choose_threshold:
    input:
        hub_search_records,
    output:
        "<results>/hubs/{dataset}/{model}/{hub_search}.threshold.json",
    log:
        "<logs>/choose_threshold/{dataset}/{model}/{hub_search}.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("choose_threshold"),
    message:
        "Choosing k of the {wildcards.hub_search} search of {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/choose_threshold.py"


rule tabulate_hubs:
    input:
        records=hub_files("json"),
        centrality=hub_files("centrality.npz"),
    output:
        hubs="<results>/tables/hubs.csv",
        training="<results>/tables/hub_training.csv",
        accuracy="<results>/tables/censet_accuracy.csv",
        search="<results>/tables/hub_search.csv",
        search_training="<results>/tables/hub_search_training.csv",
        layout="<results>/tables/censet_layout.csv",
    log:
        "<logs>/tabulate_hubs.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code_of("tabulate_hubs"),
        settings=SETTINGS.model_dump(mode="json", exclude=NOT_IN_RESULTS),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_hubs.py"


rule ablate_hubs:
    input:
        dataset="<resources>/datasets/{dataset}.npz",
        record="<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.json",
        weights="<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.weights.npz",
    output:
        "<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.ablation.csv",
    log:
        "<logs>/ablate_hubs/{dataset}/{model}/{hub_run}/seed{seed}.log",
    benchmark:
        "<benchmarks>/ablate_hubs/{dataset}/{model}/{hub_run}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=2 * 60,
    params:
        code=code_of("ablate_hubs"),
    message:
        "Removing units of {wildcards.model} on {wildcards.dataset} by {wildcards.hub_run}, seed {wildcards.seed}"
    script:
        "../scripts/ablate_hubs.py"


rule tabulate_hub_tests:
    input:
        centrality=hub_files("centrality.npz", searches=False),
        ablations=hub_files("ablation.csv", searches=False),
    output:
        formation="<results>/tables/hub_formation.csv",
        ablation="<results>/tables/hub_ablation.csv",
    log:
        "<logs>/tabulate_hub_tests.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=2 * 60,
    params:
        code=code_of("tabulate_hub_tests"),
        settings=SETTINGS.model_dump(mode="json", exclude=NOT_IN_RESULTS),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_hub_tests.py"


rule draw_hub_network:
    input:
        weights="<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.weights.npz",
        centrality="<results>/hubs/{dataset}/{model}/{hub_run}/seed{seed}.centrality.npz",
    output:
        svg=report(
            "<results>/figures/hub_network.{dataset}.{model}.{hub_run}.seed{seed}.svg",
            caption="../report/hub_network.rst",
            category="Hub neurons",
            subcategory="Figures of one network",
            labels={"network": "{model}, {dataset}, {hub_run}, seed {seed}"},
        ),
        png="<results>/figures/hub_network.{dataset}.{model}.{hub_run}.seed{seed}.png",
    log:
        "<logs>/draw_hub_network/{dataset}.{model}.{hub_run}.seed{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("draw_hub_network"),
    message:
        "Drawing the hubs of {wildcards.model} on {wildcards.dataset} by {wildcards.hub_run}, seed {wildcards.seed}"
    script:
        "../scripts/draw_hub_network.py"
