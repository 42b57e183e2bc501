"""What each stage reads: the one list of edges, (plan, wildcards) -> name -> files; and what it loads by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gazepipe.common.named import module_of
from gazepipe.config import select
from gazepipe.dag import runs, tables
from gazepipe.dag.stage import File, Files, made
from gazepipe.dag.stages import BUNDLE
from gazepipe.evaluation.settings import CONTROLS

if TYPE_CHECKING:
    from gazepipe.dag.plan import Plan


def raw(plan: Plan, dataset: str, part: str = "") -> Files:
    """The raw data set."""
    return {"receipt": made("fetch", "receipt", dataset=dataset)}


def parts(plan: Plan, dataset: str) -> Files:
    """Every part of the store."""
    return {"parts": [made("prepare_part", "part", dataset=dataset, part=part) for part in plan.parts(dataset)]}


def store(plan: Plan, dataset: str) -> Files:
    """The data set's store."""
    return {"store": made("prepare", "store", dataset=dataset)}


def data(plan: Plan, dataset: str) -> Files:
    """The data set's store and split."""
    return {**store(plan, dataset), "split": made("split", "split", dataset=dataset)}


def sheet(plan: Plan, dataset: str) -> Files:
    """The raw data set and its store."""
    return {**raw(plan, dataset), **store(plan, dataset)}


def training(plan: Plan, dataset: str, **names: str) -> Files:
    """Store and split; where a run has them, weights of parent, shape and teacher, stores of unlabelled images, and a
    shrunk network's width.
    """
    run = {"dataset": dataset, **names}
    files = data(plan, dataset)
    for link, other in runs.linked(plan.config, **run).items():
        files[link] = made("train", "weights", **other)
    others = plan.config.methods[names["method"]].unlabelled_for(dataset)
    if others:
        files["unlabelled"] = [made("prepare", "store", dataset=other) for other in others]
    explained = runs.explained_for(plan.config, **run)
    return {**files, "width": made("explain", "width", **explained)} if explained else files


def trained(plan: Plan, dataset: str, **names: str) -> Files:
    """A run's weights, and the data that it was trained on."""
    return {"weights": made("train", "weights", dataset=dataset, **names), **data(plan, dataset)}


def tested(plan: Plan, dataset: str, **names: str) -> Files:
    """A run's weights and split, and the stores of the data sets that it is tested on."""
    return {
        "weights": made("train", "weights", dataset=dataset, **names),
        "stores": _tests(plan, dataset),
        "split": made("split", "split", dataset=dataset),
    }


def _tests(plan: Plan, dataset: str) -> list[File]:
    """The stores that what learnt from a data set is tested on, as its settings name them."""
    return [made("prepare", "store", dataset=test) for test in select.selected_with(plan.config, dataset)]


def corrupted(plan: Plan, dataset: str, model: str, method: str) -> Files:
    """The weights of every fold and seed of a network, and the data that they were trained on."""
    of_network = runs.of_network(plan.config, dataset, model, method)
    return {"weights": [made("train", "weights", **run) for run in of_network], **data(plan, dataset)}


def control(plan: Plan, dataset: str, model: str, fold: str, seed: str) -> Files:
    """The store and split that a control learns from, and the stores that it is tested on."""
    return {
        "train_store": made("prepare", "store", dataset=dataset),
        "split": made("split", "split", dataset=dataset),
        "stores": _tests(plan, dataset),
    }


def shape(plan: Plan, model: str, method: str) -> Files:
    """The weights that tell a network's shape, where the configuration does not."""
    run = runs.shaped(plan.config, model, method)
    return {"weights": made("train", "weights", **run)} if run else {}


def explanations(plan: Plan, **network: str) -> Files:
    """The explanations of a network's seeds."""
    explained = [{**network, "seed": str(seed)} for seed in plan.config.benchmark.seeds]
    return {
        "explanations": [made("explain", "summary", **run) for run in explained],
        "beside": [made("explain", name, **run) for run in explained for name in ("importance", "dimension")],
    }


def exported(plan: Plan, **run: str) -> Files:
    """A run with its predictions."""
    return {**trained(plan, **run), "predictions": made("predict", "predictions", **run)}


def bundle(plan: Plan, dataset: str, model: str, method: str) -> Files:
    """The run that a bundle holds."""
    return exported(plan, **runs.first(plan.config, dataset, model, method))


def timed(plan: Plan, dataset: str) -> Files:
    """A data set's bundles, and the weights that they were made from."""
    names = [{"dataset": dataset, "model": m, "method": n} for m, n in runs.deployed(plan.config, dataset)]
    first, *others = BUNDLE
    return {
        "bundles": [made("export", first, **each) for each in names],
        "beside": [made("export", other, **each) for each in names for other in others],
        "weights": [made("train", "weights", **runs.first(plan.config, **each)) for each in names],
    }


def page(plan: Plan) -> Files:
    """Everything that the tables wrote, facts of the trainings, contact sheets, cards of bundles."""
    config = plan.config
    return {
        "tables": [made("tables", name) for name in tables.outputs(plan)],
        "facts": [made("train", "facts", **run) for run in runs.selected(config)],
        "sheets": [made("sheet", "sheet", dataset=dataset) for dataset in config.benchmark.datasets],
        "bundles": [
            made("export", "card", dataset=dataset, model=model, method=method)
            for dataset in runs.deployed_datasets(config)
            for model, method in runs.deployed(config, dataset)
        ],
    }


# ---- modules that are loaded by name


def network(plan: Plan, model: str, **_: str) -> tuple[str, ...]:
    """The network's module."""
    return (plan.network_module(model),)


def predictor(plan: Plan, model: str, **_: str) -> tuple[str, ...]:
    """The module of a control."""
    return (CONTROLS[model].partition(":")[0],)


def network_and_kinds(plan: Plan, model: str, method: str, **_: str) -> tuple[str, ...]:
    """The network's module and those of what its method does."""
    return (plan.network_module(model), *plan.kind_modules(method))


def networks(plan: Plan, dataset: str) -> tuple[str, ...]:
    """The modules of a data set's exported networks."""
    return tuple(dict.fromkeys(plan.network_module(model) for model, _ in runs.deployed(plan.config, dataset)))


def origin(plan: Plan, dataset: str) -> tuple[str, ...]:
    """What a drawn set is made by. How a file was loaded decides nothing: its checksum is compared."""
    entry = plan.config.datasets[dataset]
    if entry.source.drawn is None:
        return ("gazepipe.datasets.fetch.archive",)
    return ("gazepipe.drawn.draw", module_of("gazepipe.drawn.layouts", entry.layout))


def reader(plan: Plan, dataset: str, part: str = "") -> tuple[str, ...]:
    """What reads the data set's layout."""
    return (module_of("gazepipe.datasets.layouts", plan.config.datasets[dataset].layout),)
