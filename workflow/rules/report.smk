rule tables:
    """Benchmark, Cross-dataset and Inference speed, as Markdown and as CSV."""
    input:
        results=table_inputs,
        sheets=[paths.sheet(RESULTS, dataset) for dataset in PLAN.config.benchmark.datasets],
    output:
        tables=f"{RESULTS}/tables.md",
        benchmark=f"{RESULTS}/tables/benchmark.csv",
        cross_dataset=f"{RESULTS}/tables/cross_dataset.csv",
        efficiency=f"{RESULTS}/tables/efficiency.csv",
        efficiency_run_size=f"{RESULTS}/tables/efficiency_run_size.csv",
        comparisons=f"{RESULTS}/tables/comparisons.csv",
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        block=block("tables"),
        key=key("tables"),
    shell:
        "gazepipe tables --block {params.block:q} --out {output.tables} 2> {log}"
