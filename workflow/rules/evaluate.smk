rule predict:
    """Predict a data set with a run: its own test fold, or the whole of another set."""
    input:
        weights=f"{RUN_FOLDER}/model.safetensors",
        store=paths.store(RESULTS, "{test}"),
        split=paths.split(RESULTS, "{dataset}"),
    output:
        predictions=paths.prediction(RESULTS, "{dataset}", "{model}", "{method}", "{fold}", "{seed}", "{test}"),
    log:
        paths.log(RESULTS, "predict", "{dataset}", "{model}", "{method}", "{fold}", "{seed}", "{test}"),
    benchmark:
        paths.benchmark(RESULTS, "predict", "{dataset}", "{model}", "{method}", "{fold}", "{seed}", "{test}")
    conda:
        ENVIRONMENT
    threads: PLAN.config.training.threads
    resources:
        mem_mb=by_attempt(3000),
        runtime=by_attempt(60),
    params:
        block=block("predict"),
        key=key("predict"),
    shell:
        "gazepipe predict --block {params.block:q} --weights {input.weights} --store {input.store}"
        " --split {input.split} --out {output.predictions} 2> {log}"


rule predict_mean:
    """Predict the mean gaze of the training subjects: what a network must beat."""
    input:
        train_store=paths.store(RESULTS, "{dataset}"),
        split=paths.split(RESULTS, "{dataset}"),
        store=paths.store(RESULTS, "{test}"),
    output:
        predictions=paths.prediction(RESULTS, "{dataset}", "mean", "none", "{fold}", "{seed}", "{test}"),
    log:
        paths.log(RESULTS, "predict_mean", "{dataset}", "{fold}", "{seed}", "{test}"),
    benchmark:
        paths.benchmark(RESULTS, "predict_mean", "{dataset}", "{fold}", "{seed}", "{test}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        block=block("predict_mean"),
        key=key("predict_mean"),
    shell:
        "gazepipe predict-mean --block {params.block:q} --train-store {input.train_store}"
        " --split {input.split} --store {input.store} --out {output.predictions} 2> {log}"


ruleorder: predict_mean > predict
