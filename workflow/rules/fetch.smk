rule fetch:
    """Draw, load or unpack a data set in its native layout, or look at the folder that holds it."""
    output:
        receipt=local(paths.receipt(RUN, "{dataset}")),
    log:
        paths.log(RESULTS, "fetch", "{dataset}"),
    benchmark:
        paths.benchmark(RESULTS, "fetch", "{dataset}")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(240),
    params:
        block=block("fetch"),
        key=key("fetch"),
    shell:
        "gazepipe fetch --block {params.block:q} --workers {threads} --out {output.receipt} 2> {log}"
