RUN_FOLDER = paths.run_folder(RESULTS, "{dataset}", "{model}", "{method}", "{fold}", "{seed}")


rule train:
    """Train one network on one fold: from scratch, or from its parent, with or without its teacher."""
    input:
        store=paths.store(RESULTS, "{dataset}"),
        split=paths.split(RESULTS, "{dataset}"),
        parent=partial(linked_weights, link="parent"),
        teacher=partial(linked_weights, link="teacher"),
        shape=partial(linked_weights, link="shape"),
        width=recommended_width,
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
    threads: of_training(lambda training: training["threads"] * training["processes"])
    resources:
        mem_mb=by_attempt(8000 if GPUS else 4000),
        runtime=by_attempt(720),
        gpu=of_training(lambda training: GPUS * training["processes"]),
    params:
        block=block("train"),
        key=key("train"),
        source=source("train"),
        links=given("parent", "teacher", "shape", "width"),
        state=paths.training_state(RESULTS, "{dataset}", "{model}", "{method}", "{fold}", "{seed}"),
    shell:
        "gazepipe train --block {params.block:q} --store {input.store} --split {input.split}"
        " {params.links} --source {params.source} --state {params.state} --key {params.key}"
        " --out $(dirname {output.weights}) 2> {log}"
