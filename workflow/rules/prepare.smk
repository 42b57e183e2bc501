rule prepare_part:
    """Detect, normalise and cut the images of some subjects."""
    input:
        receipt=local(paths.receipt(RUN, "{dataset}")),
    output:
        part=local(temp(paths.part(RESULTS, "{dataset}", "{part}"))),
    log:
        paths.log(RESULTS, "prepare_part", "{dataset}", "{part}"),
    benchmark:
        paths.benchmark(RESULTS, "prepare_part", "{dataset}", "{part}")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(120),
    params:
        block=block("prepare_part"),
        key=key("prepare_part"),
    shell:
        "gazepipe prepare-part --block {params.block:q} --receipt {input.receipt} --out {output.part} 2> {log}"


rule prepare:
    """Merge the parts into the store; list what could not be used."""
    input:
        parts=prepared_parts,
    output:
        store=paths.store(RESULTS, "{dataset}"),
        rejected=paths.rejected(RESULTS, "{dataset}"),
    log:
        paths.log(RESULTS, "prepare", "{dataset}"),
    benchmark:
        paths.benchmark(RESULTS, "prepare", "{dataset}")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(60),
    params:
        block=block("prepare"),
        key=key("prepare"),
    shell:
        "gazepipe prepare --block {params.block:q} --out {output.store}"
        " --rejected {output.rejected} {input.parts} 2> {log}"


rule split:
    """Assign subjects to folds and roles."""
    input:
        store=paths.store(RESULTS, "{dataset}"),
    output:
        split=paths.split(RESULTS, "{dataset}"),
    log:
        paths.log(RESULTS, "split", "{dataset}"),
    benchmark:
        paths.benchmark(RESULTS, "split", "{dataset}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        block=block("split"),
        key=key("split"),
    shell:
        "gazepipe split --block {params.block:q} --store {input.store} --out {output.split} 2> {log}"


rule sheet:
    """A contact sheet: native images with their gaze, and the patches that the network sees."""
    input:
        receipt=local(paths.receipt(RUN, "{dataset}")),
        store=paths.store(RESULTS, "{dataset}"),
    output:
        sheet=paths.sheet(RESULTS, "{dataset}"),
    log:
        paths.log(RESULTS, "sheet", "{dataset}"),
    benchmark:
        paths.benchmark(RESULTS, "sheet", "{dataset}")
    localrule: BESIDE_DATA
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(10),
    params:
        block=block("sheet"),
        key=key("sheet"),
    shell:
        "gazepipe sheet --block {params.block:q} --receipt {input.receipt} --store {input.store}"
        " --out {output.sheet} 2> {log}"
