rule export:
    """A run as files for other runtimes, each checked against torch: asked for by name, not by the default target."""
    input:
        unpack(inputs("export")),
    output:
        **outputs("export"),
    log:
        logged("export"),
    benchmark:
        benchmarked("export")
    priority: first("export")
    conda:
        ENVIRONMENT
    threads: cores("export")
    resources:
        mem_mb=memory("export", 6000),
        runtime=minutes("export", 120),
    params:
        **params("export"),
    shell:
        command("export")


rule export_errors:
    """The errors of a run's test subjects through each of its exported files."""
    input:
        unpack(inputs("export_errors")),
    output:
        **outputs("export_errors"),
    log:
        logged("export_errors"),
    benchmark:
        benchmarked("export_errors")
    priority: first("export_errors")
    conda:
        ENVIRONMENT
    threads: cores("export_errors")
    resources:
        mem_mb=memory("export_errors", 6000),
        runtime=minutes("export_errors", 120),
    params:
        **params("export_errors"),
    shell:
        command("export_errors")


rule speed:
    """Time a data set's exported networks against each other, in one interleaved run that holds every core."""
    input:
        unpack(inputs("speed")),
    output:
        **outputs("speed"),
    log:
        logged("speed"),
    benchmark:
        benchmarked("speed")
    priority: first("speed")
    conda:
        ENVIRONMENT
    threads: cores("speed")
    resources:
        mem_mb=memory("speed", 6000),
        runtime=minutes("speed", 60),
    params:
        **params("speed"),
    shell:
        command("speed")
