"""What the stage `tables` reads and writes: it depends on what the run is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gazepipe.config import select
from gazepipe.dag import runs
from gazepipe.dag.stage import File, Files, made
from gazepipe.evaluation.settings import CONTROLS
from gazepipe.report.settings import chosen, datasets_of

if TYPE_CHECKING:
    from gazepipe.dag.plan import Plan


def inputs(plan: Plan) -> Files:
    """Everything that a table, a sentence or a size on the page comes from."""
    return {
        "predictions": predictions(plan),
        "robustness": robustness(plan),
        "profiles": profiles(plan),
        "explanations": [
            made("explain", name, **run) for run in _explained(plan) for name in ("summary", "width", "dimension")
        ],
        "agreements": agreements(plan),
        "deployed": _deployed(plan),
        "weights": _measured(plan),
        "histories": _histories(plan),
        "filters": _filters(plan),
        "stores": [made("prepare", "store", dataset=dataset) for dataset in plan.config.benchmark.datasets],
        "sheets": [made("sheet", "sheet", dataset=dataset) for dataset in plan.config.benchmark.datasets],
    }


def predictions(plan: Plan) -> list[File]:
    """The predictions of every selected run and control."""
    config, files = plan.config, []
    for dataset in config.benchmark.datasets:
        for fold in select.folds(config, dataset):
            names = {"dataset": dataset, "fold": fold, "seed": 0}
            files += [made("predict_control", "predictions", model=name, **names) for name in CONTROLS]
        for model, method in select.networks_for(config, dataset):
            files += [made("predict", "predictions", **run) for run in runs.of_network(config, dataset, model, method)]
    return files


def robustness(plan: Plan) -> list[File]:
    """Errors and jitter of corrupted images, of every network that is tested so, and a picture of each data set's."""
    files = []
    for dataset in runs.corrupted_datasets(plan.config):
        files.append(made("corruptions", "picture", dataset=dataset))
        for model, method in runs.corrupted(plan.config, dataset):
            names = {"dataset": dataset, "model": model, "method": method}
            files += [made("robustness", name, **names) for name in ("errors", "jitter")]
    return files


def profiles(plan: Plan) -> list[File]:
    """One profile for each shape of each selected model."""
    shapes = dict.fromkeys(
        (model, runs.shape_maker(plan.config, method)) for model, method in runs.networks(plan.config)
    )
    return [made("profile", "costs", model=model, method=method) for model, method in shapes]


def agreements(plan: Plan) -> list[File]:
    """How far explanations agree over seeds, of every explained network; none with a single seed."""
    if len(plan.config.benchmark.seeds) == 1:
        return []
    networks = [{name: value for name, value in run.items() if name != "seed"} for run in _explained(plan)]
    return list(dict.fromkeys(made("explain_seeds", "agreement", **network) for network in networks))


def outputs(plan: Plan) -> dict[str, str]:
    """The page first, the CSV and LaTeX files of the run's topics, figures, checksums of all results."""
    tables = [table for table in chosen(topics(plan)) if table.frame]
    figures = [f"{name}.{kind}" for name in _figures(plan) for kind in ("svg", "png")]
    return {
        "page": "{results}/tables.md",
        **{table.name: f"{{results}}/tables/{table.name}.csv" for table in tables},
        **{table.latex: f"{{results}}/tables/{table.name}.tex" for table in tables},
        **{file: f"{{results}}/figures/{file}" for file in figures},
        "checksums": "{results}/checksums.json",
    }


def modules(plan: Plan) -> tuple[str, ...]:
    """The modules of the run's tables, which are loaded by name."""
    return tuple(dict.fromkeys(module for table in chosen(topics(plan)) for module in table.modules))


def topics(plan: Plan) -> set[str]:
    """What a run's tables are about: the tasks of its data sets, `structural` pruning, `rebirth` of filters, exported
    networks (`deploy`), corrupted images (`robustness`)."""
    config = plan.config
    tasks = {config.datasets[name].task for name in config.benchmark.datasets}
    pruned = any(
        config.methods[method].structural
        for model, method in runs.networks(config)
        if select.task_of(config.models[model]) == "angles"
    )
    further = {
        "structural": pruned,
        "rebirth": _reborn(plan),
        "deploy": runs.deployed_datasets(config),
        "robustness": runs.corrupted_datasets(config),
    }
    return tasks | {topic for topic, there in further.items() if there}


def _figures(plan: Plan) -> list[str]:
    """The names of the figures of the run's tables."""
    tasks = {name: plan.config.datasets[name].task for name in plan.config.benchmark.datasets}
    special = {"deploy": runs.deployed_datasets(plan.config), "robustness": runs.corrupted_datasets(plan.config)}
    return [
        name for table in chosen(topics(plan)) for name in table.figure_names(datasets_of(table.topic, tasks, special))
    ]


def _explained(plan: Plan) -> list[dict[str, str]]:
    return runs.explained(plan.config)


def _histories(plan: Plan) -> list[File]:
    """The epochs of every selected run."""
    return [
        made("train", "history", **run)
        for dataset in plan.config.benchmark.datasets
        for model, method in select.networks_for(plan.config, dataset)
        for run in runs.of_network(plan.config, dataset, model, method)
    ]


def _reborn(plan: Plan) -> list[tuple[str, str, str]]:
    """The data set, model and method of the selected networks of angles in which filters start again."""
    config = plan.config
    return [
        (dataset, model, method)
        for dataset in config.benchmark.datasets
        if config.datasets[dataset].task == "angles"
        for model, method in select.networks_for(config, dataset)
        if config.methods[method].starts_again
    ]


def _filters(plan: Plan) -> list[File]:
    """What the figure of filters is drawn from: of the first run of each network with re-birth its facts and weights,
    and the weights of what it started from and of what it is compared with.
    """
    files = []
    for dataset, model, method in _reborn(plan):
        files.append(made("train", "facts", **runs.first(plan.config, dataset, model, method)))
        for each in (method, *_before(plan, dataset, model, method)):
            files.append(made("train", "weights", **runs.first(plan.config, dataset, model, each)))
    return files


def _before(plan: Plan, dataset: str, model: str, method: str) -> list[str]:
    """The methods that re-birth is compared with in the figure of filters: what it started from, and its control."""
    node, selected = plan.config.methods[method], select.networks_for(plan.config, dataset)
    return [node.parent, *([node.control] if (model, node.control) in selected else [])]


def _deployed(plan: Plan) -> list[File]:
    files = []
    for dataset in runs.deployed_datasets(plan.config):
        files += [made("speed", name, dataset=dataset) for name in ("table", "machine")]
        for model, method in runs.deployed(plan.config, dataset):
            tested = runs.of_network(plan.config, dataset, model, method)
            files += [made("export_errors", "errors", **run) for run in tested]
    return files


def _measured(plan: Plan) -> list[File]:
    """The weights whose size is in the near-eye table."""
    return [
        made("train", "weights", **runs.first(plan.config, dataset, model, method))
        for dataset in plan.config.benchmark.datasets
        if plan.config.datasets[dataset].task == "point"
        for model, method in select.networks_for(plan.config, dataset)
    ]
