"""Figures: SVG for print and PNG for a look."""


rule draw_table:
    input:
        table_files,
    output:
        svg=report(
            "<results>/figures/{figure}.svg",
            caption="../report/figures.rst",
            category=heading_of_figure,
            subcategory="Figures",
            labels=labels_of_figure,
        ),
        png="<results>/figures/{figure}.png",
    log:
        "<logs>/draw_table/{figure}.log",
    wildcard_constraints:
        figure=any_of(TABLES),
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("draw_table"),
        tables=tables_of_figure,
        options={},
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/draw_table.py"


use rule draw_table as draw_table_by_model with:
    output:
        svg=report(
            "<results>/figures/{figure}.{dataset}.{model}.svg",
            caption="../report/figures.rst",
            category=heading_of_figure,
            subcategory="Figures of one model",
            labels=labels_of_figure,
        ),
        png="<results>/figures/{figure}.{dataset}.{model}.png",
    log:
        "<logs>/draw_table_by_model/{figure}.{dataset}.{model}.log",
    params:
        code=code_of("draw_table"),
        tables=tables_of_figure,
        options=chosen_rows,
    message:
        "Drawing {wildcards.figure} of {wildcards.model} on {wildcards.dataset}"


use rule draw_table as draw_published_table with:
    input:
        published_table_files,
    output:
        svg=report(
            "<results>/published/figures/{figure}.svg",
            caption="../report/figures.rst",
            category=PUBLISHED_HEADING,
            subcategory="Figures",
            labels={"figure": "{figure} (published)"},
        ),
        png="<results>/published/figures/{figure}.png",
    log:
        "<logs>/draw_published_table/{figure}.log",
    wildcard_constraints:
        figure=any_of(PREDICTION),
    message:
        "Drawing {wildcards.figure} of the published networks"


rule draw_topology:
    input:
        graph="<results>/graphs/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz",
    output:
        svg=report(
            "<results>/figures/{figure}.{dataset}.{model}.{pruner}.{sparsity}.seed{seed}.svg",
            caption="../report/figures.rst",
            category=heading_of_figure,
            subcategory="Figures of one network",
            labels={
                "network": "{figure}, {dataset}, {model}, {pruner}, {sparsity}, seed {seed}"
            },
        ),
        png="<results>/figures/{figure}.{dataset}.{model}.{pruner}.{sparsity}.seed{seed}.png",
    log:
        "<logs>/draw_topology/{figure}.{dataset}.{model}.{pruner}.{sparsity}.seed{seed}.log",
    wildcard_constraints:
        figure="layer_graph|degree_distributions",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code_of("draw_topology"),
    message:
        "Drawing {wildcards.figure} of {wildcards.model} pruned by {wildcards.pruner} to {wildcards.sparsity}"
    script:
        "../scripts/draw_topology.py"


rule draw_network:
    input:
        graph=example_graph,
        hierarchy=example_hierarchy,
        truth=truth_file,
    output:
        svg=report(
            "<results>/figures/{figure}.{dataset}.{model}.svg",
            caption="../report/figures.rst",
            category=heading_of_figure,
            subcategory="Figures of one model",
            labels=labels_of_figure,
        ),
        png="<results>/figures/{figure}.{dataset}.{model}.png",
    log:
        "<logs>/draw_network/{figure}.{dataset}.{model}.log",
    wildcard_constraints:
        figure="coactivation_graph|radial_hierarchy|facing_trees",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code_of("draw_network"),
    message:
        "Drawing {wildcards.figure} of {wildcards.model} on {wildcards.dataset}"
    script:
        "../scripts/draw_network.py"
