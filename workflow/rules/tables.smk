"""Tables: one row per observation, and the layouts of the published tables."""


rule tabulate_rf:
    input:
        distance_files(),
    output:
        "<results>/tables/rf.csv",
    log:
        "<logs>/tabulate_rf.log",
    conda:
        "../../envs/hierarchy.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("tabulate_rf"),
        settings=SETTINGS.model_dump(mode="json", exclude=NOT_IN_RESULTS),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_rf.py"


rule tabulate_baselines:
    input:
        baseline_files(),
    output:
        "<results>/tables/baselines.csv",
    log:
        "<logs>/tabulate_baselines.log",
    conda:
        "../../envs/hierarchy.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("tabulate_baselines"),
        datasets=SETTINGS.datasets,
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_baselines.py"


rule summarise_rf:
    input:
        rf="<results>/tables/rf.csv",
        baselines="<results>/tables/baselines.csv",
    output:
        "<results>/tables/rf_summary.csv",
    log:
        "<logs>/summarise_rf.log",
    conda:
        "../../envs/hierarchy.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("summarise_rf"),
    message:
        "Writing {output}"
    script:
        "../scripts/summarise_rf.py"


rule tabulate_accuracy:
    input:
        all_metrics_files(),
    output:
        accuracy="<results>/tables/accuracy.csv",
        networks="<results>/tables/networks.csv",
    log:
        "<logs>/tabulate_accuracy.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("tabulate_accuracy"),
        settings=SETTINGS.model_dump(mode="json", exclude=NOT_IN_RESULTS),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_accuracy.py"


rule tabulate_topometrics:
    input:
        topometrics=topometrics_files(),
        metrics=all_metrics_files(),
    output:
        "<results>/tables/topometrics.csv",
    log:
        "<logs>/tabulate_topometrics.log",
    conda:
        "../../envs/topology.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("tabulate_topometrics"),
        settings=SETTINGS.model_dump(mode="json", exclude=NOT_IN_RESULTS),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_topometrics.py"
