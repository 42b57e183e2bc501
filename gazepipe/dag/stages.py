"""Every stage of the DAG, declared once; what the fields mean is said in `gazepipe.dag.stage`.

Nothing here imports what computes: functions and modules are named. A stage's rule is in workflow/rules/.
"""

from gazepipe.dag.stage import ALL_CORES, Stage

RUN = ("dataset", "model", "method", "fold", "seed")
RUN_PATH = "{dataset}/{model}/{method}/fold{fold}/seed{seed}"
EXPLANATION = {
    "summary": "explain.json",
    "width": "width.json",
    "widths": "width.csv",
    "width_figure": "width.png",
    "embedding": "embedding.npz",
    "importance": "importance.csv",
    "importance_figure": "importance.png",
    "stability": "stability.csv",
    "stability_figure": "stability.png",
    "dimension": "dimension.json",
    "dimension_figure": "dimension.png",
    "sweep": "sweep.csv",
    "sweep_figure": "sweep.png",
    "heatmaps": "heatmaps.csv",
    "heatmaps_figure": "heatmaps.png",
    "sanity": "sanity.csv",
    "sanity_figure": "sanity.png",
}
BUNDLE = {
    "description": "preprocess.json",
    "card": "card.md",
    "table": "deploy.csv",
    "subjects": "subjects.csv",
    "onnx": "model.onnx",
    "onnx_int8": "model.int8.onnx",
    "openvino": "model.xml",
    "openvino_weights": "model.bin",
    "openvino_int8": "model.int8.xml",
    "openvino_int8_weights": "model.int8.bin",
}
TABLES_READ = (
    *("predictions", "robustness", "profiles", "explanations", "agreements", "deployed", "weights", "sheets"),
    *("histories", "filters", "stores"),
)
"""What the tables are made from: too many files to name, so the function finds them by the patterns in its settings."""

PAGE_READ = ("tables", "facts", "sheets", "bundles")
"""What the page is made from, in the same way."""


# ---- cores, GPUs, processes: of the settings


def _threads(settings) -> int:
    return settings.threads


def _training_threads(settings) -> int:
    return settings.training.threads * settings.training.processes


def _processes(settings) -> int:
    return settings.training.processes


def _no_slot(settings) -> None:
    return None


def _drawing(settings) -> int | None:
    return None if settings.source.drawn is None else 1


def _every_core(settings) -> int:
    return ALL_CORES


def _gpu(settings) -> int:
    return 1 if settings.device in ("auto", "cuda") else 0


STAGES = {
    "fetch": Stage(
        run="gazepipe.datasets.fetch.fetch:fetch",
        settings="gazepipe.dag.settings:fetch",
        wildcards=("dataset",),
        outputs={"receipt": "{raw}/{dataset}.json"},
        modules="gazepipe.dag.inputs:origin",
        source=("gazepipe.datasets.fetch.inventory",),
        cores=_drawing,
        stays=True,
    ),
    "prepare_part": Stage(
        run="gazepipe.datasets.prepare:prepare_part",
        settings="gazepipe.dag.settings:prepare_part",
        wildcards=("dataset", "part"),
        inputs="gazepipe.dag.inputs:raw",
        modules="gazepipe.dag.inputs:reader",
        outputs={"part": "{results}/data/parts/{dataset}/{part}.h5"},
        stays=True,
    ),
    "prepare": Stage(
        run="gazepipe.datasets.prepare:prepare",
        settings="gazepipe.dag.settings:prepare",
        wildcards=("dataset",),
        inputs="gazepipe.dag.inputs:parts",
        outputs={"store": "{results}/data/{dataset}.h5", "rejected": "{results}/data/{dataset}.rejected.csv"},
    ),
    "split": Stage(
        run="gazepipe.datasets.splits:split_subjects",
        settings="gazepipe.dag.settings:split",
        wildcards=("dataset",),
        inputs="gazepipe.dag.inputs:store",
        outputs={"split": "{results}/splits/{dataset}.csv"},
        cores=_no_slot,
    ),
    "sheet": Stage(
        run="gazepipe.datasets.overview:draw_sheet",
        settings="gazepipe.dag.settings:sheet",
        wildcards=("dataset",),
        inputs="gazepipe.dag.inputs:sheet",
        modules="gazepipe.dag.inputs:reader",
        outputs={"sheet": "{results}/figures/sheets/{dataset}.png"},
    ),
    "train": Stage(
        run="gazepipe.methods.train:train",
        settings="gazepipe.dag.settings:train",
        wildcards=RUN,
        inputs="gazepipe.dag.inputs:training",
        outputs={
            "weights": f"{{results}}/runs/{RUN_PATH}/model.safetensors",
            "history": f"{{results}}/runs/{RUN_PATH}/history.csv",
            "facts": f"{{results}}/runs/{RUN_PATH}/run.json",
        },
        modules="gazepipe.dag.inputs:network_and_kinds",
        cores=_training_threads,
        gpus=_gpu,
        processes=_processes,
        resumes=True,
    ),
    # Before `predict`, whose files these are named like.
    "predict_control": Stage(
        run="gazepipe.evaluation.control:predict_control",
        settings="gazepipe.dag.settings:predict_control",
        wildcards=("dataset", "model", "fold", "seed"),
        inputs="gazepipe.dag.inputs:control",
        outputs={"predictions": "{results}/predictions/{dataset}/{model}/none/fold{fold}/seed{seed}.csv"},
        modules="gazepipe.dag.inputs:predictor",
    ),
    "predict": Stage(
        run="gazepipe.evaluation.predict:predict",
        settings="gazepipe.dag.settings:predict",
        wildcards=RUN,
        inputs="gazepipe.dag.inputs:tested",
        outputs={"predictions": f"{{results}}/predictions/{RUN_PATH}.csv"},
        modules="gazepipe.dag.inputs:network",
        cores=_threads,
        gpus=_gpu,
    ),
    "robustness": Stage(
        run="gazepipe.evaluation.robustness:robustness",
        settings="gazepipe.dag.settings:robustness",
        wildcards=("dataset", "model", "method"),
        inputs="gazepipe.dag.inputs:corrupted",
        outputs={
            "errors": "{results}/robustness/{dataset}/{model}/{method}.csv",
            "jitter": "{results}/jitter/{dataset}/{model}/{method}.csv",
        },
        modules="gazepipe.dag.inputs:network",
        cores=_threads,
        gpus=_gpu,
    ),
    "corruptions": Stage(
        run="gazepipe.evaluation.corruption_sheet:draw_corruptions",
        settings="gazepipe.dag.settings:corruptions",
        wildcards=("dataset",),
        inputs="gazepipe.dag.inputs:data",
        outputs={"picture": "{results}/figures/corruptions/{dataset}.png"},
    ),
    "profile": Stage(
        run="gazepipe.profiling.stage:profile",
        settings="gazepipe.dag.settings:profile",
        wildcards=("model", "method"),
        inputs="gazepipe.dag.inputs:shape",
        outputs={"costs": "{results}/profiles/{model}/{method}.json"},
        modules="gazepipe.dag.inputs:network",
        cores=_every_core,
    ),
    "explain": Stage(
        run="gazepipe.near_eye.explain.stage:explain",
        settings="gazepipe.dag.settings:explain",
        wildcards=RUN,
        inputs="gazepipe.dag.inputs:trained",
        outputs={name: f"{{results}}/explain/{RUN_PATH}/{file}" for name, file in EXPLANATION.items()},
        modules="gazepipe.dag.inputs:network",
        cores=_threads,
        gpus=_gpu,
        whole_folder=True,
    ),
    "explain_seeds": Stage(
        run="gazepipe.near_eye.explain.agreement:explain_seeds",
        settings="gazepipe.dag.settings:explain_seeds",
        wildcards=("dataset", "model", "method", "fold"),
        inputs="gazepipe.dag.inputs:explanations",
        besides=("beside",),
        outputs={
            "agreement": "{results}/explain/{dataset}/{model}/{method}/fold{fold}/seeds/runs.csv",
            "dimensions": "{results}/explain/{dataset}/{model}/{method}/fold{fold}/seeds/runs_dimension.csv",
            "figure": "{results}/explain/{dataset}/{model}/{method}/fold{fold}/seeds/runs.png",
        },
        whole_folder=True,
    ),
    "export": Stage(
        run="gazepipe.export.stage:export",
        settings="gazepipe.dag.settings:export",
        wildcards=("dataset", "model", "method"),
        inputs="gazepipe.dag.inputs:bundle",
        outputs={name: f"{{results}}/deploy/{{dataset}}/{{model}}/{{method}}/{file}" for name, file in BUNDLE.items()},
        modules="gazepipe.dag.inputs:network",
        cores=_threads,
        gpus=_gpu,
        whole_folder=True,
        resumes=True,
    ),
    "export_errors": Stage(
        run="gazepipe.export.stage:export_errors",
        settings="gazepipe.dag.settings:export_errors",
        wildcards=RUN,
        inputs="gazepipe.dag.inputs:exported",
        outputs={"errors": "{results}/deployed/{dataset}/{model}/{method}/fold{fold}/seed{seed}.csv"},
        modules="gazepipe.dag.inputs:network",
        cores=_threads,
        gpus=_gpu,
        resumes=True,
    ),
    "speed": Stage(
        run="gazepipe.export.speed:speed",
        settings="gazepipe.dag.settings:speed",
        wildcards=("dataset",),
        inputs="gazepipe.dag.inputs:timed",
        besides=("beside",),
        outputs={"table": "{results}/deployed/{dataset}.csv", "machine": "{results}/deployed/{dataset}.json"},
        modules="gazepipe.dag.inputs:networks",
        cores=_every_core,
    ),
    "tables": Stage(
        run="gazepipe.report.tables:tables",
        settings="gazepipe.dag.settings:tables",
        wildcards=(),
        inputs="gazepipe.dag.tables:inputs",
        besides=TABLES_READ,
        outputs="gazepipe.dag.tables:outputs",
        modules="gazepipe.dag.tables:modules",
        source=("gazepipe.report.tables", "gazepipe.report.settings", "gazepipe.provenance.checksums"),
        whole_folder=True,
    ),
    "page": Stage(
        run="gazepipe.report.page:page",
        settings="gazepipe.dag.settings:page",
        wildcards=(),
        inputs="gazepipe.dag.inputs:page",
        besides=PAGE_READ,
        outputs={"page": "{results}/index.html"},
        cores=_no_slot,
        whole_folder=True,
    ),
}
"""Each stage by its name, which is also that of its rule and, with hyphens, of its subcommand."""
