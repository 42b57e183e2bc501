"""What a configuration asks for: its runs, and the settings of each."""

from typing import Any, TypeVar

from pydantic import ValidationError

from gazepipe.common.settings import Settings
from gazepipe.config.messages import explain
from gazepipe.config.schema import Config, Dataset, Model
from gazepipe.datasets.columbia import COLUMBIA_FOLDS
from gazepipe.datasets.settings import VIEWS, Patch
from gazepipe.errors import UserError
from gazepipe.training.settings import Augmentation, Training

B = TypeVar("B", bound=Settings)
POINT_NETWORKS = {"itracker4"}


def training_of(config: Config, dataset: str, model: str, method: str) -> Training:
    """The training block of a run: the top-level one, overridden by the data set's, the model's, then the method's."""
    merged = config.training
    for kind, name in (("datasets", dataset), ("models", model), ("methods", method)):
        merged = overridden(merged, getattr(config, kind)[name].training, (kind, name, "training"))
    return merged


def augmentation_of(config: Config, dataset: str) -> Augmentation:
    """The augmentation of a data set's runs: the top-level block, overridden by the data set's."""
    own = config.datasets[dataset].augmentation
    return overridden(config.augmentation, own, ("datasets", dataset, "augmentation"))


def overridden(base: B, override: dict[str, Any], location: tuple[str, ...]) -> B:
    """`base` with single keys replaced; `location` names the block `override` in the `UserError` of a wrong key."""
    try:
        return type(base).model_validate({**base.model_dump(), **override})
    except ValidationError as error:
        raise UserError(explain(error, type(base), location)) from None


def patch_of(config: Config, dataset: str) -> Patch:
    """What networks see of a data set."""
    return config.datasets[dataset].patch or config.patch


def layout_options(dataset: Dataset) -> dict[str, Any]:
    """What the layout's reader wants to know beyond the folder."""
    if dataset.near_eye is not None:
        return dataset.near_eye.model_dump()
    return {"manifest": dataset.manifest.model_dump(exclude_none=True)} if dataset.manifest else {}


def input_shape(patch: Patch) -> list[int]:
    """[V, H, W] of a sample."""
    return [VIEWS.get(patch.kind, 1), patch.height, patch.width]


def task_of(model: Model) -> str:
    """What a network predicts: `angles` or `point`."""
    return model.task or ("point" if model.arch in POINT_NETWORKS else "angles")


def selected_with(config: Config, dataset: str) -> list[str]:
    """The selected data sets of the same task, itself among them, in the order of the configuration."""
    task = config.datasets[dataset].task
    return [name for name in config.benchmark.datasets if config.datasets[name].task == task]


def fold_numbers(dataset: Dataset) -> list[int]:
    """The folds that the data set's protocol makes; of Columbia's five, those with one of the subjects present."""
    match dataset.split.protocol:
        case "columbia":
            present = range(dataset.subjects)
            return [fold for fold, numbers in enumerate(COLUMBIA_FOLDS) if set(numbers) & set(present)]
        case "leave-one-out":
            return list(range(dataset.subjects))
        case "given":
            return [0]
        case _:
            assert dataset.split.folds is not None
            return list(range(dataset.split.folds))


def tested_subjects(dataset: Dataset, fold: int) -> float:
    """How many of a data set's subjects a fold tests; of `k-fold` the mean over folds. Not for the protocol `given`."""
    match dataset.split.protocol:
        case "columbia":
            return sum(number < dataset.subjects for number in COLUMBIA_FOLDS[fold])
        case "leave-one-out":
            return 1
        case _:
            assert dataset.split.folds is not None
            return dataset.subjects / dataset.split.folds


def folds(config: Config, dataset: str) -> list[int]:
    """The selected folds of a data set."""
    return config.benchmark.folds.get(dataset) or fold_numbers(config.datasets[dataset])


def networks(config: Config) -> list[tuple[str, str]]:
    """The selected (model, method) pairs."""
    chosen = config.benchmark
    pairs = [(model, method) for model in chosen.models for method in methods_of(config, model)]
    return [pair for pair in pairs if "/".join(pair) not in chosen.skip]


def methods_of(config: Config, model: str) -> list[str]:
    """The methods of a selected model: its own list, or the benchmark's."""
    own = config.models[model].methods
    return config.benchmark.methods if own is None else own


def networks_for(config: Config, dataset: str) -> list[tuple[str, str]]:
    """The selected (model, method) pairs that predict what a data set holds."""
    task = config.datasets[dataset].task
    return [pair for pair in networks(config) if task_of(config.models[pair[0]]) == task]


def with_ancestors(config: Config) -> list[tuple[str, str]]:
    """The selected (model, method) pairs and all that they go back to by parent, shape and teacher."""
    found, waiting = {}, networks(config)
    while waiting:
        pair = model, method = waiting.pop()
        if pair in found:
            continue
        found[pair] = None
        entry, teacher = config.methods[method], teacher_of(config, model, method)
        waiting += [(model, link) for link in (entry.parent, entry.shape) if link]
        waiting += [teacher] if teacher else []
    return list(found)


def teacher_of(config: Config, model: str, method: str) -> tuple[str, str] | None:
    """(model, method) of the teacher, or None."""
    teacher = config.methods[method].teacher
    if teacher is None:
        return None
    first, _, second = teacher.partition("/")
    return (first, second) if second else (model, first)
