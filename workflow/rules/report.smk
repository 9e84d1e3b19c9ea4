"""Pages of the tables, which a report shows in place of the CSV files."""


rule render_table:
    input:
        "<results>/{pool}tables/{table}.csv",
    output:
        report(
            "<results>/{pool}tables/{table}.html",
            caption="../report/tables.rst",
            category=heading_of_table,
            subcategory="Tables",
            labels=labels_of_table,
        ),
    log:
        "<logs>/render_table/{pool}{table}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("render_table"),
    message:
        "Writing {output}"
    script:
        "../scripts/render_table.py"
