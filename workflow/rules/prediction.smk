"""Prediction and ranking from topometrics: `pool` is empty for the project's own networks."""


rule read_published_tables:
    input:
        published_source()[0],
    output:
        unrolled="<results>/published/tables/topometrics.csv",
        rolled="<results>/published/tables/topometrics_rolled.csv",
        rolled_channel="<results>/published/tables/topometrics_rolled-channel.csv",
        layers="<results>/published/tables/layers.csv",
        report="<results>/published/reading.json",
    log:
        "<logs>/read_published_tables.log",
    benchmark:
        "<benchmarks>/read_published_tables.tsv"
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("read_published_tables"),
        problem=published_source()[1],
    message:
        "Reading the published tables"
    script:
        "../scripts/read_published_tables.py"


rule tabulate_layers:
    input:
        topometrics="<results>/tables/topometrics.csv",
        masks=masks_files(),
    output:
        "<results>/tables/layers.csv",
    log:
        "<logs>/tabulate_layers.log",
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("tabulate_layers"),
    message:
        "Densities of layers"
    script:
        "../scripts/tabulate_layers.py"


rule regress_drop:
    input:
        topometrics=networks_table,
        layers="<results>/{pool}tables/layers.csv",
    output:
        "<results>/{pool}prediction/regression/{encoding}/{protocol}/{learner}.csv",
    log:
        "<logs>/regress_drop/{pool}{encoding}.{protocol}.{learner}.log",
    benchmark:
        "<benchmarks>/regress_drop/{pool}{encoding}.{protocol}.{learner}.tsv"
    # The longest jobs first, or one of them runs alone at the end.
    priority: 10
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        code=code_of("regress_drop"),
        design=design_of("tmlr"),
        options=prediction_options(
            "features",
            "learner_features",
            "regressors",
            "folds",
            "runs",
            "control_runs",
            "learner_runs",
            "seed",
        ),
    message:
        "Regression: {wildcards.pool}{wildcards.encoding}, split {wildcards.protocol}, {wildcards.learner}"
    script:
        "../scripts/regress_drop.py"


rule tabulate_regression:
    input:
        regression_parts,
    output:
        table="<results>/{pool}tables/regression.csv",
        trimmed="<results>/{pool}tables/regression_trimmed.csv",
        cells="<results>/{pool}tables/regression_cells.csv",
        means="<results>/{pool}tables/regression_means.csv",
    log:
        "<logs>/tabulate_regression/{pool}all.log",
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("tabulate_regression"),
    message:
        "Writing {output.table}"
    script:
        "../scripts/tabulate_regression.py"


rule regress_ablation:
    input:
        topometrics="<results>/{pool}tables/topometrics.csv",
    output:
        "<results>/{pool}tables/ablation.csv",
    log:
        "<logs>/regress_ablation/{pool}all.log",
    benchmark:
        "<benchmarks>/regress_ablation/{pool}all.tsv"
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        code=code_of("regress_ablation"),
        design=design_of("arxiv"),
        options=prediction_options("folds", "runs", "control_runs", "seed"),
    message:
        "Regression by data set: {output}"
    script:
        "../scripts/regress_ablation.py"


rule predict_out_of_fold:
    input:
        topometrics="<results>/{pool}tables/topometrics.csv",
        layers="<results>/{pool}tables/layers.csv",
    output:
        "<results>/{pool}prediction/out_of_fold/{protocol}.csv",
    log:
        "<logs>/predict_out_of_fold/{pool}{protocol}.log",
    benchmark:
        "<benchmarks>/predict_out_of_fold/{pool}{protocol}.tsv"
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        code=code_of("predict_out_of_fold"),
        design=design_of("tmlr"),
        options=prediction_options("folds", "seed"),
    message:
        "Predictions out of fold: {wildcards.pool}{wildcards.protocol}"
    script:
        "../scripts/predict_out_of_fold.py"


rule tabulate_predictions:
    input:
        topometrics="<results>/{pool}tables/topometrics.csv",
        parts=prediction_parts,
    output:
        predictions="<results>/{pool}tables/predictions.csv",
        honest="<results>/{pool}tables/honest.csv",
        leave_one_out="<results>/{pool}tables/leave_one_out.csv",
    log:
        "<logs>/tabulate_predictions/{pool}all.log",
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("tabulate_predictions"),
        design=design_of("tmlr"),
        options=prediction_options("draws", "seed"),
    message:
        "Writing {output.honest}"
    script:
        "../scripts/tabulate_predictions.py"


rule calibrate_intervals:
    input:
        topometrics="<results>/{pool}tables/topometrics.csv",
    output:
        "<results>/{pool}tables/calibration.csv",
    log:
        "<logs>/calibrate_intervals/{pool}all.log",
    benchmark:
        "<benchmarks>/calibrate_intervals/{pool}all.tsv"
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("calibrate_intervals"),
        design=design_of("tmlr"),
        options=prediction_options("levels", "seed"),
    message:
        "Coverage of intervals: {output}"
    script:
        "../scripts/calibrate_intervals.py"


rule classify_pruners:
    input:
        topometrics="<results>/{pool}tables/topometrics.csv",
        layers="<results>/{pool}tables/layers.csv",
    output:
        "<results>/{pool}prediction/classification/{target}.csv",
    log:
        "<logs>/classify_pruners/{pool}{target}.log",
    benchmark:
        "<benchmarks>/classify_pruners/{pool}{target}.tsv"
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        code=code_of("classify_pruners"),
        design=design_of("arxiv"),
        acts=acts_of_pruners,
        options=prediction_options(
            "class_features", "classifier", "classification_runs", "folds", "seed"
        ),
    message:
        "Classification of the {wildcards.target}: {wildcards.pool}"
    script:
        "../scripts/classify_pruners.py"


rule tabulate_classification:
    input:
        classification_parts,
    output:
        "<results>/{pool}tables/classification.csv",
    log:
        "<logs>/tabulate_classification/{pool}all.log",
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("tabulate_classification"),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_classification.py"


rule measure_importance:
    input:
        topometrics="<results>/{pool}tables/topometrics.csv",
    output:
        "<results>/{pool}prediction/importance/{task}.csv",
    log:
        "<logs>/measure_importance/{pool}{task}.log",
    benchmark:
        "<benchmarks>/measure_importance/{pool}{task}.tsv"
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("measure_importance"),
        design=design_of_task,
        acts=acts_of_pruners,
        options=prediction_options("targets", "classifier", "folds", "shuffles", "seed"),
    message:
        "Importance of topometrics for the {wildcards.task}: {wildcards.pool}"
    script:
        "../scripts/measure_importance.py"


rule tabulate_importance:
    input:
        collect(
            "<results>/{pool}prediction/importance/{task}.csv",
            task=["drop", "pruners"],
            allow_missing=True,
        ),
    output:
        "<results>/{pool}tables/importance.csv",
    log:
        "<logs>/tabulate_importance/{pool}all.log",
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("tabulate_importance"),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_importance.py"


rule rank_strategies:
    input:
        topometrics="<results>/{pool}tables/topometrics.csv",
        layers="<results>/{pool}tables/layers.csv",
        predictions="<results>/{pool}tables/predictions.csv",
    output:
        ranking="<results>/{pool}tables/ranking.csv",
        overlaps="<results>/{pool}tables/overlaps.csv",
        ranks="<results>/{pool}tables/ranks.csv",
    log:
        "<logs>/rank_strategies/{pool}all.log",
    benchmark:
        "<benchmarks>/rank_strategies/{pool}all.tsv"
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("rank_strategies"),
        design=design_of("tmlr"),
        options=prediction_options("draws", "seed"),
    message:
        "Ranking of pruners: {output.ranking}"
    script:
        "../scripts/rank_strategies.py"


rule recompute_ranking:
    input:
        topometrics="<results>/published/tables/topometrics.csv",
        layers="<results>/published/tables/layers.csv",
        report="<results>/published/reading.json",
    output:
        "<results>/published/tables/ranking_tables.csv",
    log:
        "<logs>/recompute_ranking.log",
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("recompute_ranking"),
    message:
        "Tables 4, 11 and 12 of the TMLR paper"
    script:
        "../scripts/recompute_ranking.py"


rule compare_with_papers:
    input:
        regression="<results>/published/tables/regression.csv",
        trimmed="<results>/published/tables/regression_trimmed.csv",
        ablation="<results>/published/tables/ablation.csv",
        classification="<results>/published/tables/classification.csv",
        ranking="<results>/published/tables/ranking_tables.csv",
    output:
        cells="<results>/published/tables/comparison.csv",
        summary="<results>/published/tables/comparison_summary.csv",
    log:
        "<logs>/compare_with_papers.log",
    conda:
        "../../envs/prediction.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code_of("compare_with_papers"),
    message:
        "Printed cells beside ours"
    script:
        "../scripts/compare_with_papers.py"
