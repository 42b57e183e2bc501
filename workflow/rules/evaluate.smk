rule predict:
    """Predict every data set of its task with a run: of its own the test fold, of another one all subjects."""
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


rule robustness:
    """Test a network with corrupted images of the test subjects of its own data set: every fold and seed at once."""
    input:
        unpack(inputs("robustness")),
    output:
        **outputs("robustness"),
    log:
        logged("robustness"),
    benchmark:
        benchmarked("robustness")
    conda:
        ENVIRONMENT
    threads: cores("robustness")
    resources:
        mem_mb=by_attempt(3000),
        runtime=by_attempt(60),
    params:
        **params("robustness"),
    shell:
        command("robustness")


rule corruptions:
    """Draw one image of a data set under every corruption."""
    input:
        unpack(inputs("corruptions")),
    output:
        **outputs("corruptions"),
    log:
        logged("corruptions"),
    benchmark:
        benchmarked("corruptions")
    conda:
        ENVIRONMENT
    threads: cores("corruptions")
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        **params("corruptions"),
    shell:
        command("corruptions")
