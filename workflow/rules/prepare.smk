rule prepare_part:
    """Detect, normalise and cut the images of some subjects."""
    input:
        unpack(inputs("prepare_part")),
    output:
        part=temp(outputs("prepare_part")["part"]),
    log:
        logged("prepare_part"),
    benchmark:
        benchmarked("prepare_part")
    priority: first("prepare_part")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: cores("prepare_part")
    resources:
        mem_mb=memory("prepare_part", 2000),
        runtime=minutes("prepare_part", 120),
    params:
        **params("prepare_part"),
    shell:
        command("prepare_part")


rule prepare:
    """Merge the parts into the store; list what could not be used."""
    input:
        unpack(inputs("prepare")),
    output:
        **outputs("prepare"),
    log:
        logged("prepare"),
    benchmark:
        benchmarked("prepare")
    priority: first("prepare")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: cores("prepare")
    resources:
        mem_mb=memory("prepare", 2000),
        runtime=minutes("prepare", 60),
    params:
        **params("prepare"),
    shell:
        command("prepare")


rule split:
    """Assign subjects to folds and roles."""
    input:
        unpack(inputs("split")),
    output:
        **outputs("split"),
    log:
        logged("split"),
    benchmark:
        benchmarked("split")
    priority: first("split")
    conda:
        ENVIRONMENT
    threads: cores("split")
    resources:
        mem_mb=memory("split", 1000),
        runtime=minutes("split", 10),
    params:
        **params("split"),
    shell:
        command("split")


rule sheet:
    """A contact sheet: native images with their gaze, and the patches that the network sees."""
    input:
        unpack(inputs("sheet")),
    output:
        **outputs("sheet"),
    log:
        logged("sheet"),
    benchmark:
        benchmarked("sheet")
    priority: first("sheet")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: cores("sheet")
    resources:
        mem_mb=memory("sheet", 2000),
        runtime=minutes("sheet", 10),
    params:
        **params("sheet"),
    shell:
        command("sheet")
