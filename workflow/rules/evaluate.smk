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
    priority: first("predict")
    conda:
        ENVIRONMENT
    threads: cores("predict")
    resources:
        mem_mb=memory("predict", 3000),
        runtime=minutes("predict", 60),
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
    priority: first("predict_control")
    conda:
        ENVIRONMENT
    threads: cores("predict_control")
    resources:
        mem_mb=memory("predict_control", 2000),
        runtime=minutes("predict_control", 60),
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
    priority: first("robustness")
    conda:
        ENVIRONMENT
    threads: cores("robustness")
    resources:
        mem_mb=memory("robustness", 3000),
        runtime=minutes("robustness", 60),
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
    priority: first("corruptions")
    conda:
        ENVIRONMENT
    threads: cores("corruptions")
    resources:
        mem_mb=memory("corruptions", 1000),
        runtime=minutes("corruptions", 10),
    params:
        **params("corruptions"),
    shell:
        command("corruptions")
