rule export:
    """A run as files for other runtimes, each checked against torch: asked for by name, not by the default target."""
    input:
        weights=deployed("weights"),
        store=paths.store(RESULTS, "{dataset}"),
        split=paths.split(RESULTS, "{dataset}"),
        predicted=deployed("predicted"),
    output:
        files=paths.bundle(RESULTS, "{dataset}", "{model}", "{method}"),
    log:
        paths.log(RESULTS, "export", "{dataset}", "{model}", "{method}"),
    benchmark:
        paths.benchmark(RESULTS, "export", "{dataset}", "{model}", "{method}")
    conda:
        ENVIRONMENT
    threads: PLAN.config.training.threads
    resources:
        mem_mb=by_attempt(6000),
        runtime=by_attempt(120),
    params:
        block=block("export"),
        key=key("export"),
        state=paths.export_state(RESULTS, "export", "{dataset}", "{model}", "{method}"),
    shell:
        "gazepipe export --block {params.block:q} --weights {input.weights} --store {input.store}"
        " --split {input.split} --predicted {input.predicted} --state {params.state} --key {params.key}"
        " --out $(dirname {output.files[0]}) 2> {log}"


rule export_errors:
    """The errors of a run's test subjects through each of its exported files."""
    input:
        weights=f"{RUN_FOLDER}/model.safetensors",
        store=paths.store(RESULTS, "{dataset}"),
        split=paths.split(RESULTS, "{dataset}"),
        predicted=paths.prediction(RESULTS, "{dataset}", "{model}", "{method}", "{fold}", "{seed}", "{dataset}"),
    output:
        errors=paths.deployed_errors(RESULTS, "{dataset}", "{model}", "{method}", "{fold}", "{seed}"),
    log:
        paths.log(RESULTS, "export_errors", "{dataset}", "{model}", "{method}", "{fold}", "{seed}"),
    benchmark:
        paths.benchmark(RESULTS, "export_errors", "{dataset}", "{model}", "{method}", "{fold}", "{seed}")
    conda:
        ENVIRONMENT
    threads: PLAN.config.training.threads
    resources:
        mem_mb=by_attempt(6000),
        runtime=by_attempt(120),
    params:
        block=block("export_errors"),
        key=key("export_errors"),
        state=paths.export_state(RESULTS, "errors", "{dataset}", "{model}", "{method}", "{fold}", "{seed}"),
    shell:
        "gazepipe export-errors --block {params.block:q} --weights {input.weights} --store {input.store}"
        " --split {input.split} --predicted {input.predicted} --state {params.state} --key {params.key}"
        " --out {output.errors} 2> {log}"


rule speed:
    """Time a data set's exported networks against each other, in one interleaved run that holds every core."""
    input:
        bundles=exported("bundles"),
        beside=exported("files"),
        weights=exported("weights"),
    output:
        files=paths.speed(RESULTS, "{dataset}"),
    log:
        paths.log(RESULTS, "speed", "{dataset}"),
    benchmark:
        paths.benchmark(RESULTS, "speed", "{dataset}")
    priority: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(6000),
        runtime=by_attempt(60),
    params:
        block=block("speed"),
        key=key("speed"),
        folders=lambda wildcards, input: [os.path.dirname(path) for path in input.bundles],
    shell:
        "gazepipe speed --block {params.block:q} --bundles {params.folders} --weights {input.weights}"
        " --out {output.files[0]} 2> {log}"
