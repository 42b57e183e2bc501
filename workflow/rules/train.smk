rule train:
    """Train one network on one fold: from scratch, or from its parent, with or without its teacher."""
    input:
        unpack(inputs("train")),
    output:
        **outputs("train"),
    log:
        logged("train"),
    benchmark:
        benchmarked("train")
    priority: first("train")
    conda:
        ENVIRONMENT
    threads: cores("train")
    resources:
        mem_mb=memory("train", 8000 if GPUS else 4000),
        runtime=minutes("train", 720),
        gpu=gpus("train"),
    params:
        **params("train"),
    shell:
        command("train")
