"""Which runs belong together: a run's parent, teacher and shape, the run that stands for others, those of the tables.

A run is the wildcards of a training: dataset, model, method, fold, seed, all as text.
"""

from gazepipe.config import select
from gazepipe.config.schema import Config
from gazepipe.errors import UserError

Run = dict[str, str]


def linked(config: Config, dataset: str, model: str, method: str, fold: str, seed: str) -> dict[str, Run]:
    """The `parent`, `shape` and `teacher` runs of a run, those that it has."""
    common = {"dataset": dataset, "fold": fold, "seed": seed}
    node, found = config.methods[method], {}
    for link in ("parent", "shape"):
        if getattr(node, link):
            found[link] = {**common, "model": model, "method": getattr(node, link)}
    teacher = select.teacher_of(config, model, method)
    if teacher:
        found["teacher"] = {**common, "model": teacher[0], "method": teacher[1]}
    return found


def explained_for(config: Config, dataset: str, model: str, method: str, fold: str, seed: str) -> Run | None:
    """The run whose explanation says how wide a shrunk network has to be; None for others."""
    node = config.methods[method]
    if node.shrink is None or node.shrink.first_layer is None:
        return None
    return {"dataset": dataset, "model": model, "method": node.parent, "fold": fold, "seed": seed}


def datasets_for(config: Config, model: str) -> list[str]:
    """The selected data sets that a model is trained on."""
    task = select.task_of(config.models[model])
    return [name for name in config.benchmark.datasets if config.datasets[name].task == task]


def dataset_for(config: Config, model: str) -> str:
    """The one that stands for the others where only the network's size matters: all have the same patch."""
    found = datasets_for(config, model)
    if not found:
        raise UserError(f"configuration: benchmark.datasets: none holds what the model {model} predicts; add one")
    return found[0]


def networks(config: Config) -> list[tuple[str, str]]:
    """The selected (model, method) pairs that some selected data set is for."""
    return [pair for pair in select.networks(config) if datasets_for(config, pair[0])]


def shape_maker(config: Config, method: str) -> str:
    """The method that made the network's shape: training, KD and re-birth keep the shape that they start from."""
    node = config.methods[method]
    if node.makes_a_shape:
        return method
    origin = node.parent or node.shape
    return shape_maker(config, origin) if origin else "base" if "base" in config.methods else method


def first(config: Config, dataset: str, model: str, method: str) -> Run:
    """The run of the first of the selected folds and seeds, which stands for the others in a bundle."""
    fold, seed = select.folds(config, dataset)[0], config.benchmark.seeds[0]
    return {"dataset": dataset, "model": model, "method": method, "fold": str(fold), "seed": str(seed)}


def shaped(config: Config, model: str, method: str) -> Run | None:
    """The run whose weights tell a network's shape, where the configuration does not tell it."""
    if not config.methods[shape_maker(config, method)].makes_a_shape:
        return None
    return first(config, dataset_for(config, model), model, method)


def epochs(config: Config, dataset: str, model: str, method: str) -> int:
    """The epochs of a run, all its trainings together; early stopping may make them fewer."""
    return config.methods[method].epochs_of(select.training_of(config, dataset, model, method).epochs)


def deployed(config: Config, dataset: str) -> list[tuple[str, str]]:
    """The (model, method) pairs that are exported and timed on a data set, in the order of the configuration."""
    selected = {"/".join(pair): pair for pair in select.networks_for(config, dataset)}
    return [selected[name] for name in config.benchmark.deploy if name in selected]


def deployed_datasets(config: Config) -> list[str]:
    """The selected data sets with networks that are exported."""
    return [name for name in config.benchmark.datasets if deployed(config, name)]


def corrupted(config: Config, dataset: str) -> list[tuple[str, str]]:
    """The (model, method) pairs that are tested with corrupted images on a data set: unless named, no placebos."""
    chosen, networks = config.robustness.networks, select.networks_for(config, dataset)
    if chosen is None:
        return [(model, method) for model, method in networks if config.methods[method].placebo is None]
    return [pair for pair in networks if "/".join(pair) in chosen]


def corrupted_datasets(config: Config) -> list[str]:
    """The selected data sets whose images are corrupted."""
    return [name for name in config.benchmark.datasets if corrupted(config, name)]


def of_network(config: Config, dataset: str, model: str, method: str) -> list[Run]:
    """The selected runs of one network on one data set: every fold and seed."""
    return [
        {"dataset": dataset, "model": model, "method": method, "fold": str(fold), "seed": str(seed)}
        for fold in select.folds(config, dataset)
        for seed in config.benchmark.seeds
    ]


def selected(config: Config) -> list[Run]:
    """Every selected run."""
    return [
        run
        for dataset in config.benchmark.datasets
        for model, method in select.networks_for(config, dataset)
        for run in of_network(config, dataset, model, method)
    ]


def explained(config: Config) -> list[Run]:
    """The runs that are explained: of every near-eye network that is neither shrunk nor shaped as one that is, and can
    have learnt."""
    return [
        run
        for dataset in config.benchmark.datasets
        if config.datasets[dataset].task == "point"
        for model, method in select.networks_for(config, dataset)
        if config.models[model].arch in select.POINT_NETWORKS
        and shaped(config, model, method) is None
        and config.methods[method].placebo is None
        for run in of_network(config, dataset, model, method)
    ]
