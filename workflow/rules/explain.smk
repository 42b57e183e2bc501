rule explain:
    """Read from a near-eye network which parts matter, and how small it could be."""
    input:
        weights=f"{RUN_FOLDER}/model.safetensors",
        store=paths.store(RESULTS, "{dataset}"),
        split=paths.split(RESULTS, "{dataset}"),
    output:
        files=paths.explanation(RESULTS, "{dataset}", "{model}", "{method}", "{fold}", "{seed}"),
    log:
        paths.log(RESULTS, "explain", "{dataset}", "{model}", "{method}", "{fold}", "{seed}"),
    benchmark:
        paths.benchmark(RESULTS, "explain", "{dataset}", "{model}", "{method}", "{fold}", "{seed}")
    # Networks wait for the width that it finds.
    priority: 1
    conda:
        ENVIRONMENT
    threads: PLAN.config.training.threads
    resources:
        mem_mb=6000,
        runtime=120,
        gpu=GPUS,
    params:
        block=block("explain"),
        key=key("explain"),
    shell:
        "gazepipe explain --block {params.block:q} --weights {input.weights} --store {input.store}"
        " --split {input.split} --out $(dirname {output.files[0]}) 2> {log}"
