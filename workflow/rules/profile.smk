rule profile:
    """Count and time one network; the stage holds every core, so that nothing else disturbs the clock."""
    input:
        weights=shaped_weights,
    output:
        profile=paths.profile(RESULTS, "{model}", "{method}"),
    log:
        paths.log(RESULTS, "profile", "{model}", "{method}"),
    benchmark:
        paths.benchmark(RESULTS, "profile", "{model}", "{method}")
    # First: a job that waits for all cores while others run would leave cores idle.
    priority: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(3000),
        runtime=by_attempt(30),
    params:
        block=block("profile"),
        key=key("profile"),
        weights=given("weights"),
    shell:
        "gazepipe profile --block {params.block:q} {params.weights} --out {output.profile} 2> {log}"
