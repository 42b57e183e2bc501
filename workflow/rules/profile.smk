rule profile:
    """Count and time one network; the stage holds every core, so that nothing else disturbs the clock."""
    input:
        unpack(inputs("profile")),
    output:
        **outputs("profile"),
    log:
        logged("profile"),
    benchmark:
        benchmarked("profile")
    # First: a job that waits for all cores while others run would leave cores idle.
    priority: 1
    conda:
        ENVIRONMENT
    threads: cores("profile")
    resources:
        mem_mb=by_attempt(3000),
        runtime=by_attempt(30),
    params:
        **params("profile"),
    shell:
        command("profile")
