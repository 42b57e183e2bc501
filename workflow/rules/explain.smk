rule explain:
    """Read from a near-eye network which parts matter, and how small it could be."""
    input:
        unpack(inputs("explain")),
    output:
        **outputs("explain"),
    log:
        logged("explain"),
    benchmark:
        benchmarked("explain")
    # Networks wait for the width that it finds.
    priority: 1
    conda:
        ENVIRONMENT
    threads: cores("explain")
    resources:
        mem_mb=by_attempt(6000),
        runtime=by_attempt(120),
        gpu=gpus("explain"),
    params:
        **params("explain"),
    shell:
        command("explain")


rule explain_seeds:
    """Compare the explanations of one network over its seeds."""
    input:
        unpack(inputs("explain_seeds")),
    output:
        **outputs("explain_seeds"),
    log:
        logged("explain_seeds"),
    benchmark:
        benchmarked("explain_seeds")
    conda:
        ENVIRONMENT
    threads: cores("explain_seeds")
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        **params("explain_seeds"),
    shell:
        command("explain_seeds")
