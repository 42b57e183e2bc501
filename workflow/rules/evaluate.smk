rule predict:
    """Predict a data set with a run: its own test fold, or the whole of another set."""
    input:
        unpack(inputs("predict")),
    output:
        **outputs("predict"),
    log:
        logged("predict"),
    benchmark:
        benchmarked("predict")
    conda:
        ENVIRONMENT
    threads: cores("predict")
    resources:
        mem_mb=by_attempt(3000),
        runtime=by_attempt(60),
    params:
        **params("predict"),
    shell:
        command("predict")


rule predict_mean:
    """Predict the mean gaze of the training subjects: what a network must beat."""
    input:
        unpack(inputs("predict_mean")),
    output:
        **outputs("predict_mean"),
    log:
        logged("predict_mean"),
    benchmark:
        benchmarked("predict_mean")
    conda:
        ENVIRONMENT
    threads: cores("predict_mean")
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        **params("predict_mean"),
    shell:
        command("predict_mean")


ruleorder: predict_mean > predict
