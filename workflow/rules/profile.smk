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
    priority: first("profile")
    conda:
        ENVIRONMENT
    threads: cores("profile")
    resources:
        mem_mb=memory("profile", 3000),
        runtime=minutes("profile", 30),
    params:
        **params("profile"),
    shell:
        command("profile")
