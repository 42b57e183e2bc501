"""From the configuration to the typed settings of each stage: all that a job reads of it, and nothing else.

One function a stage, (plan, wildcards) -> frozen settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gazepipe.common.settings import Settings
from gazepipe.config import select
from gazepipe.dag import runs
from gazepipe.dag.stage import Job
from gazepipe.dag.tables import topics
from gazepipe.datasets.settings import FetchSettings, PartSettings, SheetSettings, Split, StoreSettings
from gazepipe.evaluation.settings import (
    ControlSettings,
    Corruptions,
    PictureSettings,
    PredictSettings,
    RobustnessSettings,
)
from gazepipe.export.settings import About, ExportSettings, SpeedSettings
from gazepipe.methods.settings import Kinds, TrainSettings
from gazepipe.models.settings import Spec
from gazepipe.near_eye.settings import AgreementSettings, ExplainSettings
from gazepipe.profiling.settings import ProfileSettings
from gazepipe.report.settings import (
    DatasetSummary,
    MethodCard,
    MethodSummary,
    ModelSummary,
    NetworkSummary,
    PageSettings,
    TablesSettings,
)

if TYPE_CHECKING:
    from gazepipe.config.schema import Config
    from gazepipe.dag.plan import Plan

PAPER_INPUT = [1, 224, 224]
DOWNLOADS = "data/downloads"
"""Archives as they were loaded, of all runs."""
FIRST_SEEN = "data-checksums.json"
"""Checksums of archives whose publisher gives none, as first seen; to be committed."""


def nothing(plan: Plan, **wildcards: str) -> Settings:
    return Settings()


def fetch(plan: Plan, dataset: str) -> FetchSettings:
    entry = plan.config.datasets[dataset]
    return FetchSettings(
        layout=entry.layout,
        subjects=entry.subjects,
        options=select.layout_options(entry),
        source=entry.source,
        folder=f"{plan.places['raw']}/{dataset}",
        downloads=DOWNLOADS,
        checksums=FIRST_SEEN,
    )


def prepare_part(plan: Plan, dataset: str, part: str) -> PartSettings:
    entry = plan.config.datasets[dataset]
    return PartSettings(
        layout=entry.layout,
        subjects=entry.subjects,
        patch=select.patch_of(plan.config, dataset),
        part=int(part),
        parts=entry.parts,
        options=select.layout_options(entry),
    )


def prepare(plan: Plan, dataset: str) -> StoreSettings:
    entry = plan.config.datasets[dataset]
    return StoreSettings(dataset=dataset, max_rejected=entry.max_rejected, by=entry.split.by)


def split(plan: Plan, dataset: str) -> Split:
    return plan.config.datasets[dataset].split


def sheet(plan: Plan, dataset: str) -> SheetSettings:
    entry = plan.config.datasets[dataset]
    return SheetSettings(dataset=dataset, layout=entry.layout, options=select.layout_options(entry))


def train(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> TrainSettings:
    node = plan.config.methods[method]
    return TrainSettings(
        model=_spec(plan.config, model, dataset),
        training=select.training_of(plan.config, dataset, model, method),
        augmentation=select.augmentation_of(plan.config, dataset),
        kinds=Kinds(**{name: getattr(node, name) for name in Kinds.model_fields}),
        device=plan.config.device,
        fold=int(fold),
        seed=int(seed),
    )


def predict(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> PredictSettings:
    return PredictSettings(
        model=_spec(plan.config, model, dataset),
        dataset=dataset,
        fold=int(fold),
        tests=select.selected_with(plan.config, dataset),
        device=plan.config.device,
        threads=plan.config.training.threads,
    )


def predict_control(plan: Plan, dataset: str, model: str, fold: str, seed: str) -> ControlSettings:
    tests = select.selected_with(plan.config, dataset)
    return ControlSettings(control=model, dataset=dataset, fold=int(fold), tests=tests)


def robustness(plan: Plan, dataset: str, model: str, method: str) -> RobustnessSettings:
    runs_of_it = runs.of_network(plan.config, dataset, model, method)
    return RobustnessSettings(
        **_corruptions(plan.config),
        model=_spec(plan.config, model, dataset),
        runs=[(int(run["fold"]), int(run["seed"])) for run in runs_of_it],
        device=plan.config.device,
        threads=plan.config.training.threads,
    )


def corruptions(plan: Plan, dataset: str) -> PictureSettings:
    return PictureSettings(**_corruptions(plan.config), dataset=dataset, fold=select.folds(plan.config, dataset)[0])


def _corruptions(config: Config) -> dict:
    """The settings of corruptions, without the networks that are tested."""
    return {name: getattr(config.robustness, name) for name in Corruptions.model_fields}


def profile(plan: Plan, model: str, method: str) -> ProfileSettings:
    spec = _spec(plan.config, model, runs.dataset_for(plan.config, model))
    sizes = {"run": spec}
    if select.task_of(plan.config.models[model]) == "angles":
        # The paper's size is that of the published network: full width.
        sizes["paper"] = {**spec, "width": 1.0, "input": PAPER_INPUT}
    return ProfileSettings(sizes=sizes, **dict(plan.config.profiling))


def explain(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> ExplainSettings:
    return ExplainSettings(
        **dict(plan.config.explain),
        fold=int(fold),
        seed=int(seed),
        device=plan.config.device,
        threads=plan.config.training.threads,
    )


def explain_seeds(plan: Plan, dataset: str, model: str, method: str, fold: str) -> AgreementSettings:
    return AgreementSettings(seeds=plan.config.benchmark.seeds)


def export(plan: Plan, dataset: str, model: str, method: str) -> ExportSettings:
    return export_errors(plan, **runs.first(plan.config, dataset, model, method))


def export_errors(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> ExportSettings:
    entry = plan.config.datasets[dataset]
    trained = train(plan, dataset, model, method, fold, seed)
    licence = entry.source.url.licence if entry.source.url else entry.licence
    drawn = entry.source.drawn is not None
    return ExportSettings(
        **dict(plan.config.deploy),
        model=trained.model,
        training=trained.training,
        augmentation=trained.augmentation,
        fold=trained.fold,
        seed=trained.seed,
        device=trained.device,
        threads=trained.training.threads,
        about=About(
            dataset=dataset,
            model=model,
            method=method,
            drawn=drawn,
            licence=licence or ("drawn here: none needed" if drawn else "not stated"),
        ),
    )


def speed(plan: Plan, dataset: str) -> SpeedSettings:
    pairs, profiling = runs.deployed(plan.config, dataset), plan.config.profiling
    return SpeedSettings(
        networks=[f"{model}/{method}" for model, method in pairs],
        models={f"{model}/{method}": _spec(plan.config, model, dataset) for model, method in pairs},
        # The figure of error against latency is about single images.
        batches=sorted({1, *profiling.batches}),
        seconds=profiling.seconds,
        threads=profiling.threads,
    )


def tables(plan: Plan) -> TablesSettings:
    config, chosen = plan.config, plan.config.benchmark
    networks = runs.networks(config)
    return TablesSettings(
        run=config.run,
        topics=sorted(topics(plan)),
        datasets={name: _dataset(config, name) for name in chosen.datasets},
        models={name: _model(config, name) for name in chosen.models},
        methods={name: _method(config, name) for name in dict.fromkeys(method for _, method in networks)},
        networks=[
            NetworkSummary(
                model=model,
                method=method,
                epochs=_epochs(config, model, method),
                total_epochs=_total_epochs(config, model, method),
                # Of a network: which data set, fold and seed it learns from changes no module.
                source=plan.source(
                    Job.of("train", **runs.first(config, runs.dataset_for(config, model), model, method))
                ),
            )
            for model, method in networks
        ],
        seeds=chosen.seeds,
        deployed={name: runs.deployed(config, name) for name in runs.deployed_datasets(config)},
        corrupted={name: runs.corrupted(config, name) for name in runs.corrupted_datasets(config)},
        explained=runs.explained(config),
        statistics=config.statistics,
        files=_files(plan),
    )


def page(plan: Plan) -> PageSettings:
    config, files = plan.config, plan.inputs(Job.of("page"))
    bundles = [(dict(file.job.wildcards), file) for file in files["bundles"]]
    below = {name: [plan.path(file).removeprefix(f"{plan.root}/") for file in found] for name, found in files.items()}
    return PageSettings(
        root=plan.root,
        about=tables(plan),
        methods={name: _card(config, name) for name in _methods_of_the_run(config)},
        files=below["tables"],
        sheets=dict(zip(config.benchmark.datasets, below["sheets"], strict=True)),
        bundles={
            f"{names['dataset']}: {names['model']}/{names['method']}": path
            for (names, _), path in zip(bundles, below["bundles"], strict=True)
        },
        configuration=_used(config),
    )


def _methods_of_the_run(config: Config) -> list[str]:
    """The selected methods, each after those that it starts from or learns from."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        node = config.methods[name]
        teacher = node.teacher.rpartition("/")[2] if node.teacher else None
        for other in (node.parent, node.shape, teacher):
            if other and other not in found:
                visit(other)
        found[name] = None

    for _, method in runs.networks(config):
        visit(method)
    return list(found)


def _card(config: Config, name: str) -> MethodCard:
    node = config.methods[name]
    models = [model for model, method in runs.networks(config) if method == name]
    learners = models or config.benchmark.models
    return MethodCard(
        parent=node.parent,
        teacher=node.teacher,
        shape=node.shape,
        control=node.control if node.control in {method for _, method in runs.networks(config)} else None,
        kinds={kind: settings.deciding() for kind, settings in node.chosen.items()},
        trainings={
            model: {
                dataset: select.training_of(config, dataset, model, name).model_dump(mode="json", exclude_defaults=True)
                for dataset in runs.datasets_for(config, model)
            }
            for model in learners
        },
        networks=models,
    )


def _used(config: Config) -> dict[str, Any]:
    """The configuration without the entries of the catalogues that the run does not use."""
    used = {
        "datasets": config.benchmark.datasets,
        "models": config.benchmark.models,
        "methods": _methods_of_the_run(config),
    }
    whole = config.deciding()
    return whole | {block: {name: whole[block][name] for name in names} for block, names in used.items()}


def _files(plan: Plan) -> dict[str, dict[str, str]]:
    """Where the tables find what they read and write: patterns below the results folder, by stage and output."""
    top = f"{plan.root}/"
    return {
        stage: {name: pattern.removeprefix(top) for name, pattern in plan.patterns(stage).items()}
        for stage in (
            "prepare",
            "train",
            "predict",
            "predict_control",
            "robustness",
            "corruptions",
            "profile",
            "explain",
            "explain_seeds",
            "export_errors",
            "speed",
            "tables",
        )
    }


def _dataset(config: Config, name: str) -> DatasetSummary:
    entry = config.datasets[name]
    return DatasetSummary(
        drawn=entry.source.drawn is not None,
        task=entry.task,
        patch=select.patch_of(config, name),
        tests=select.selected_with(config, name),
        subjects=entry.subjects,
        unit=entry.split.by,
        protocol=entry.split.protocol,
        validation=entry.split.validation,
        fold_count=len(select.fold_numbers(entry)),
        folds=select.folds(config, name),
    )


def _model(config: Config, name: str) -> ModelSummary:
    entry = config.models[name]
    return ModelSummary(arch=entry.arch, width=entry.width, task=select.task_of(entry))


def _method(config: Config, name: str) -> MethodSummary:
    node = config.methods[name]
    return MethodSummary(
        parent=node.parent,
        teacher=node.teacher,
        shape=node.shape,
        control=node.control,
        placebo=node.placebo is not None,
        structural=node.structural is not None,
        rebirth=node.starts_again,
        profiled=runs.shape_maker(config, name),
    )


def _epochs(config: Config, model: str, method: str) -> list[int]:
    """The epochs of a network's trainings, those that differ between data sets."""
    return list(dict.fromkeys(runs.epochs(config, name, model, method) for name in runs.datasets_for(config, model)))


def _total_epochs(config: Config, model: str, method: str) -> dict[str, int]:
    """The epochs of a network's training on each data set, and of those of its parents. Images without a
    label count, too.
    """
    lineage = [method]
    while parent := config.methods[lineage[-1]].parent:
        lineage.append(parent)
    return {
        name: sum(round(runs.epochs(config, name, model, each) * config.methods[each].images(name)) for each in lineage)
        for name in runs.datasets_for(config, model)
    }


def _spec(config: Config, model: str, dataset: str) -> Spec:
    entry, patch = config.models[model], select.patch_of(config, dataset)
    return {
        "arch": entry.arch,
        "width": entry.width,
        "input": select.input_shape(patch),
        "options": entry.options,
    }
