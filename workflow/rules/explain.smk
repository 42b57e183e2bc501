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
        mem_mb=by_attempt(6000),
        runtime=by_attempt(120),
        gpu=GPUS,
    params:
        block=block("explain"),
        key=key("explain"),
    shell:
        "gazepipe explain --block {params.block:q} --weights {input.weights} --store {input.store}"
        " --split {input.split} --out $(dirname {output.files[0]}) 2> {log}"


rule explain_seeds:
    """Compare the explanations of one network over its seeds."""
    input:
        explanations=explanations_of_seeds("explain.json"),
        beside=explanations_of_seeds("importance.csv", "dimension.json"),
    output:
        files=paths.seed_comparison(RESULTS, "{dataset}", "{model}", "{method}", "{fold}"),
    log:
        paths.log(RESULTS, "explain_seeds", "{dataset}", "{model}", "{method}", "{fold}"),
    benchmark:
        paths.benchmark(RESULTS, "explain_seeds", "{dataset}", "{model}", "{method}", "{fold}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        block=block("explain_seeds"),
        key=key("explain_seeds"),
    shell:
        "gazepipe explain-seeds --block {params.block:q} --out $(dirname {output.files[0]}) {input.explanations} 2> {log}"
