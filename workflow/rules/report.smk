rule tables:
    """Benchmark, Cross-dataset and Inference speed, as Markdown and as CSV."""
    input:
        results=table_inputs,
        weights=measured_weights,
        sheets=[paths.sheet(RESULTS, dataset) for dataset in PLAN.config.benchmark.datasets],
    output:
        tables=PLAN.outputs(Job.of("tables")),
    log:
        paths.log(RESULTS, "tables"),
    benchmark:
        paths.benchmark(RESULTS, "tables")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        block=block("tables"),
        key=key("tables"),
        elsewhere="--elsewhere" if REMOTE else "",
    shell:
        "gazepipe tables --block {params.block:q} --out {output.tables[0]} {params.elsewhere} 2> {log}"
