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
    conda:
        ENVIRONMENT
    threads: cores("tables")
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
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
    conda:
        ENVIRONMENT
    threads: cores("page")
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        **params("page"),
    shell:
        command("page")
