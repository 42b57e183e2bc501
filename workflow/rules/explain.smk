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
    priority: first("explain")
    conda:
        ENVIRONMENT
    threads: cores("explain")
    resources:
        mem_mb=memory("explain", 6000),
        runtime=minutes("explain", 120),
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
    priority: first("explain_seeds")
    conda:
        ENVIRONMENT
    threads: cores("explain_seeds")
    resources:
        mem_mb=memory("explain_seeds", 1000),
        runtime=minutes("explain_seeds", 10),
    params:
        **params("explain_seeds"),
    shell:
        command("explain_seeds")
