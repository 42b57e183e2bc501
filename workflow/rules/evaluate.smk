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


rule predict_control:
    """Predict without a network, by the mean gaze of the training subjects or by ridge regression: what to beat."""
    input:
        unpack(inputs("predict_control")),
    output:
        **outputs("predict_control"),
    log:
        logged("predict_control"),
    benchmark:
        benchmarked("predict_control")
    wildcard_constraints:
        model="|".join(CONTROLS),
    conda:
        ENVIRONMENT
    threads: cores("predict_control")
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(60),
    params:
        **params("predict_control"),
    shell:
        command("predict_control")


ruleorder: predict_control > predict
