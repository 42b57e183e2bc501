rule fetch:
    """Draw, load or unpack a data set in its native layout, or look at the folder that holds it."""
    output:
        **outputs("fetch"),
    log:
        logged("fetch"),
    benchmark:
        benchmarked("fetch")
    priority: first("fetch")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: cores("fetch")
    resources:
        mem_mb=memory("fetch", 2000),
        runtime=minutes("fetch", 240),
    params:
        **params("fetch"),
    shell:
        command("fetch")
