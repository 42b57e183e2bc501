rule export:
    """A run as files for other runtimes, each checked against torch: asked for by name, not by the default target."""
    input:
        weights=deployed("weights"),
        store=paths.store(RESULTS, "{dataset}"),
        split=paths.split(RESULTS, "{dataset}"),
        predicted=deployed("predicted"),
    output:
        files=paths.bundle(RESULTS, "{dataset}", "{model}", "{method}"),
    log:
        paths.log(RESULTS, "export", "{dataset}", "{model}", "{method}"),
    benchmark:
        paths.benchmark(RESULTS, "export", "{dataset}", "{model}", "{method}")
    conda:
        ENVIRONMENT
    threads: PLAN.config.training.threads
    resources:
        mem_mb=by_attempt(6000),
        runtime=by_attempt(120),
    params:
        block=block("export"),
        key=key("export"),
    shell:
        "gazepipe export --block {params.block:q} --weights {input.weights} --store {input.store}"
        " --split {input.split} --predicted {input.predicted} --out $(dirname {output.files[0]}) 2> {log}"
