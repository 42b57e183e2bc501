rule tables:
    """Benchmark, Cross-dataset and Inference speed, as Markdown and as CSV."""
    input:
        unpack(inputs("tables")),
    output:
        **outputs("tables"),
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
