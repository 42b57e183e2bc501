RUN_FOLDER = paths.run_folder(RESULTS, "{dataset}", "{model}", "{method}", "{fold}", "{seed}")


rule train:
    """Train one network on one fold: from scratch, or from its parent, with or without its teacher."""
    input:
        store=paths.store(RESULTS, "{dataset}"),
        split=paths.split(RESULTS, "{dataset}"),
        parent=partial(linked_weights, link="parent"),
        teacher=partial(linked_weights, link="teacher"),
    output:
        weights=f"{RUN_FOLDER}/model.safetensors",
        history=f"{RUN_FOLDER}/history.csv",
        record=f"{RUN_FOLDER}/run.json",
    log:
        paths.log(RESULTS, "train", "{dataset}", "{model}", "{method}", "{fold}", "{seed}"),
    benchmark:
        paths.benchmark(RESULTS, "train", "{dataset}", "{model}", "{method}", "{fold}", "{seed}")
    conda:
        ENVIRONMENT
    threads: PLAN.config.training.threads
    resources:
        mem_mb=8000 if GPUS else 4000,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=GPUS,
    params:
        block=block("train"),
        key=key("train"),
        source=source("train"),
        parent=lambda wildcards, input: f"--parent {input.parent[0]}" if input.parent else "",
        teacher=lambda wildcards, input: f"--teacher {input.teacher[0]}" if input.teacher else "",
    shell:
        "gazepipe train --block {params.block:q} --store {input.store} --split {input.split}"
        " {params.parent} {params.teacher} --source {params.source}"
        " --out $(dirname {output.weights}) 2> {log}"
