rule tables:
    """Benchmark, Cross-dataset and Inference speed, as Markdown and as CSV."""
    input:
        unpack(inputs("tables")),
    output:
        **in_report(outputs("tables")),
    log:
        logged("tables"),
    benchmark:
        benchmarked("tables")
    priority: first("tables")
    conda:
        ENVIRONMENT
    threads: cores("tables")
    resources:
        mem_mb=memory("tables", 4000),
        runtime=minutes("tables", 30),
    params:
        **params("tables"),
    shell:
        command("tables")


rule page:
    """Tables, figures, method cards and provenance as one page for a browser: index.html."""
    input:
        unpack(inputs("page")),
    output:
        **outputs("page"),
    log:
        logged("page"),
    benchmark:
        benchmarked("page")
    priority: first("page")
    conda:
        ENVIRONMENT
    threads: cores("page")
    resources:
        mem_mb=memory("page", 1000),
        runtime=minutes("page", 10),
    params:
        **params("page"),
    shell:
        command("page")
