"""Neural Sculpting: networks pruned by units and edges, and their modules."""


rule sculpt_networks:
    input:
        function_file,
    output:
        networks="<results>/sculpting/{variant}/{function}/{hidden}.npz",
        record="<results>/sculpting/{variant}/{function}/{hidden}.json",
    log:
        "<logs>/sculpt_networks/{variant}/{function}/{hidden}.log",
    benchmark:
        "<benchmarks>/sculpt_networks/{variant}/{function}/{hidden}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=24 * 60,
        gpu=GPUS,
    params:
        code=code_of("sculpt_networks"),
        function=function_of,
        hidden=hidden_of,
        recipe=sculpting_recipe,
        options=sculpting_options,
    message:
        "Sculpting networks of {wildcards.hidden} units for {wildcards.function} ({wildcards.variant})"
    script:
        "../scripts/sculpt_networks.py"


rule detect_modules:
    input:
        function_file,
        networks="<results>/sculpting/{variant}/{function}/{hidden}.npz",
        record="<results>/sculpting/{variant}/{function}/{hidden}.json",
    output:
        "<results>/modules/{variant}/{function}/{hidden}.json",
    log:
        "<logs>/detect_modules/{variant}/{function}/{hidden}.log",
    benchmark:
        "<benchmarks>/detect_modules/{variant}/{function}/{hidden}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=4 * 60,
    params:
        code=code_of("detect_modules"),
        function=function_of,
        null_networks=null_networks,
    message:
        "Finding modules of {wildcards.hidden} units for {wildcards.function} ({wildcards.variant})"
    script:
        "../scripts/detect_modules.py"


rule export_modules:
    input:
        "<results>/sculpting/{variant}/{function}/{hidden}.npz",
    output:
        "<results>/modules/{variant}/{function}/{hidden}.seed{seed}.graphml.gz",
    log:
        "<logs>/export_modules/{variant}/{function}/{hidden}.seed{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("export_modules"),
    message:
        "Writing {output}"
    script:
        "../scripts/export_modules.py"


rule tabulate_modules:
    input:
        module_records(),
    output:
        modules="<results>/tables/modules.csv",
        success="<results>/tables/modules_success.csv",
        compared="<results>/tables/modules_compared.csv",
        recipes="<results>/tables/modules_recipes.csv",
        densities="<results>/tables/modules_densities.csv",
        structure="<results>/tables/modules_structure.csv",
        stability="<results>/tables/modules_stability.csv",
        null="<results>/tables/modules_null.csv",
    log:
        "<logs>/tabulate_modules.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code_of("tabulate_modules"),
        settings=SETTINGS.model_dump(mode="json", exclude=NOT_IN_RESULTS),
    message:
        "Writing {output}"
    script:
        "../scripts/tabulate_modules.py"


rule draw_function:
    input:
        function_file,
    output:
        svg=report(
            "<results>/figures/function_graph.{function}.svg",
            caption="../report/function_graph.rst",
            category="Neural Sculpting",
            subcategory="Function graphs",
            labels={"function": "{function}"},
        ),
        png="<results>/figures/function_graph.{function}.png",
    log:
        "<logs>/draw_function/{function}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("draw_function"),
        function=function_of,
    message:
        "Drawing the function graph {wildcards.function}"
    script:
        "../scripts/draw_function.py"


rule draw_pruned:
    input:
        "<results>/sculpting/{variant}/{function}/{hidden}.npz",
    output:
        svg=report(
            "<results>/figures/pruned_network.{variant}.{function}.{hidden}.seed{seed}.svg",
            caption="../report/pruned_network.rst",
            category="Neural Sculpting",
            subcategory="Pruned networks",
            labels={"network": "{function}, {hidden}, {variant}, seed {seed}"},
        ),
        png="<results>/figures/pruned_network.{variant}.{function}.{hidden}.seed{seed}.png",
    log:
        "<logs>/draw_pruned/{variant}.{function}.{hidden}.seed{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("draw_pruned"),
    message:
        "Drawing the modules of {wildcards.hidden} units for {wildcards.function}, seed {wildcards.seed}"
    script:
        "../scripts/draw_pruned.py"
