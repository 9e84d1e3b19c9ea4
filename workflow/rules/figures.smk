"""Figures: SVG for print and PNG for a look."""


rule draw_table:
    input:
        rf="<results>/tables/rf.csv",
        baselines="<results>/tables/baselines.csv",
    output:
        svg=report(
            "<results>/figures/{figure}.svg",
            caption="../report/{figure}.rst",
            category="Figures",
        ),
        png="<results>/figures/{figure}.png",
    log:
        "<logs>/draw_table/{figure}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("draw_table"),
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/draw_table.py"


rule draw_network:
    input:
        graph=example_graph,
        hierarchy=example_hierarchy,
        truth=truth_file,
    output:
        svg=report(
            "<results>/figures/{figure}.{dataset}.{model}.svg",
            caption="../report/{figure}.rst",
            category="Networks",
            labels={"figure": "{figure}", "dataset": "{dataset}", "model": "{model}"},
        ),
        png="<results>/figures/{figure}.{dataset}.{model}.png",
    log:
        "<logs>/draw_network/{figure}.{dataset}.{model}.log",
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
