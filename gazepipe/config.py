"""Typed configuration: a catalogue (datasets, models, methods, training) and a selection (`benchmark`).

`load` turns the plain dict that YAML or Snakemake gives into a `Config`, or raises one `UserError` that names the key,
the value found and the nearest valid one.
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, ValidationError, model_validator

from gazepipe.data_config import (
    EYE_LAYOUTS,
    Block,
    Count,
    Dataset,
    Name,
    NonNegative,
    Patch,
    Positive,
    Seed,
    Share,
)
from gazepipe.datasets.splits import COLUMBIA_FOLDS
from gazepipe.errors import UserError
from gazepipe.models import model_module


class Augmentation(Block):
    """At most one operation per sample, drawn by these weights; with 1 minus their sum, none (see training.augment)."""

    crop: Share = 0.05
    flip: Share = 0.25
    blur: Share = 0.04
    sharpness: Share = 0.04
    mixup: Share = 0.04
    pairs: Share = 0.05
    shift: Annotated[float, Field(ge=0, le=0.2)] = 0.025
    brightness: NonNegative = 0.2
    contrast: NonNegative = 0.2
    noise: NonNegative = 0.02

    @model_validator(mode="after")
    def _weights(self) -> "Augmentation":
        total = self.crop + self.flip + self.blur + self.sharpness + self.mixup + self.pairs
        if total > 1:
            raise ValueError(f"crop + flip + blur + sharpness + mixup + pairs = {total:g}, must be at most 1")
        return self


class Training(Block):
    """How any network is trained; a model's or a method's own `training` overrides single keys."""

    epochs: Count = 12
    batch_size: Count = 64
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.01
    schedule: Literal["cosine", "step"] = "cosine"
    warmup_epochs: NonNegative = 1.0
    step_epochs: Count = 20
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    clip_norm: NonNegative = 5.0
    ema: Share = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    loss: Literal["mse", "smooth_l1", "angular"] = "smooth_l1"
    threads: Count = 1
    tensorboard: bool = False


class Model(Block):
    """A network: `arch` is a registered name or a user's own `module:function`; `width` multiplies its channels;
    `training` overrides keys of the top-level block."""

    arch: str
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    training: dict[str, Any] = {}


class FeatureKD(Block):
    """Feature distillation after Zhang & Ma (2021): stages (0 is the first), softmax temperature, term weights."""

    stages: list[Annotated[int, Field(ge=0)]] = [0, 1]
    temperature: Positive = 0.5
    masked: NonNegative = 0.0
    attention: NonNegative = 0.0
    non_local: NonNegative = 0.0


class KD(Block):
    """Distillation from the method's `teacher`: weight of its output, random targets (TAT), features, reliability."""

    response: NonNegative = 1.0
    random_target: bool = False
    reliability: bool = False
    feature: FeatureKD | None = None


class Rebirth(Block):
    """Cosine-similarity pruning that keeps the size: share of each layer's filters reborn, generations, epochs each."""

    share: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    generations: Annotated[int, Field(ge=1, le=8)] = 2
    epochs: Count = 3
    max_filters: Count = 128
    pearson: NonNegative = 0.0


class Method(Block):
    """A node of the DAG: what is done (`kd`, `rebirth`), from which weights (`parent`), taught by whom (`teacher`:
    a method of the same model, or `model/method`); `training` overrides keys of the top-level block."""

    parent: Name | None = None
    teacher: Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)?$")] | None = None
    kd: KD | None = None
    rebirth: Rebirth | None = None
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _teacher_and_kd(self) -> "Method":
        if (self.kd is None) != (self.teacher is None):
            raise ValueError("'kd' and 'teacher' go together")
        if self.rebirth is not None and self.parent is None:
            raise ValueError("'rebirth' starts from trained weights: name a 'parent'")
        return self


class Profiling(Block):
    """Timing of the networks: batch sizes, seconds per measurement, threads (0: all cores of the machine)."""

    batches: list[Count] = [1, 8]
    seconds: Positive = 2.0
    threads: Annotated[int, Field(ge=0)] = 0


class Statistics(Block):
    """Bootstrap over subjects."""

    resamples: Annotated[int, Field(ge=1000)] = 10_000
    seed: Seed = 0


class Benchmark(Block):
    """The selection that goes into the tables. `folds` per data set: a list, or all folds where it is left out;
    `skip`: pairs `model/method` that make no sense together."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    models: Annotated[list[Name], Field(min_length=1)]
    methods: Annotated[list[Name], Field(min_length=1)]
    folds: dict[Name, Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = {}
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    skip: list[str] = []


class Config(Block):
    """The whole configuration. `run` names the folder below `results/` (and `data/`), empty for the top itself."""

    run: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")] = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    patch: Patch = Patch()
    datasets: dict[Name, Dataset]
    models: dict[Name, Model]
    methods: dict[Name, Method]
    training: Training = Training()
    augmentation: Augmentation = Augmentation()
    profiling: Profiling = Profiling()
    statistics: Statistics = Statistics()
    benchmark: Benchmark


# Folder names that `results/` itself uses: a run of that name would mix with the default run's own folders.
RESERVED_RUNS = {
    "data",
    "splits",
    "runs",
    "predictions",
    "profiles",
    "tables",
    "figures",
    "logs",
    "benchmarks",
}


def load(raw: dict[str, Any]) -> Config:
    """Validate a configuration; raises `UserError` with one line: key, value, nearest valid one."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(_explain(error, Config)) from None
    if config.run in RESERVED_RUNS:
        raise UserError(f"configuration: run: {config.run!r} is a folder of the default run; choose another name")
    for name, model in config.models.items():
        try:
            model_module(model.arch)
        except UserError as error:
            raise UserError(f"configuration: models.{name}.arch: {error}") from None
    _check_methods(config)
    for kind in ("datasets", "models", "methods"):
        for name, entry in getattr(config, kind).items():
            _merge_training(config.training, entry.training, (kind, name, "training"))
    _check_selection(config)
    return config


def training_of(config: Config, dataset: str, model: str, method: str) -> Training:
    """The training block of a run: the top-level one, overridden by the data set's, the model's, then the method's."""
    merged = config.training
    for kind, name in (("datasets", dataset), ("models", model), ("methods", method)):
        merged = _merge_training(merged, getattr(config, kind)[name].training, (kind, name, "training"))
    return merged


def _merge_training(base: Training, override: dict[str, Any], location: tuple[str, ...]) -> Training:
    try:
        return Training.model_validate({**base.model_dump(), **override})
    except ValidationError as error:
        raise UserError(_explain(error, Training, location)) from None


def fold_numbers(dataset: Dataset) -> list[int]:
    """The folds that the data set's protocol makes; of Columbia's five, those with one of the subjects present."""
    match dataset.split.protocol:
        case "columbia":
            present = range(dataset.subjects)
            return [fold for fold, numbers in enumerate(COLUMBIA_FOLDS) if set(numbers) & set(present)]
        case "leave-one-out":
            return list(range(dataset.subjects))
        case _:
            assert dataset.split.folds is not None
            return list(range(dataset.split.folds))


def folds(config: Config, dataset: str) -> list[int]:
    """The selected folds of a data set."""
    return config.benchmark.folds.get(dataset) or fold_numbers(config.datasets[dataset])


def networks(config: Config) -> list[tuple[str, str]]:
    """The selected (model, method) pairs."""
    chosen = config.benchmark
    pairs = [(model, method) for model in chosen.models for method in chosen.methods]
    return [pair for pair in pairs if "/".join(pair) not in chosen.skip]


def teacher_of(config: Config, model: str, method: str) -> tuple[str, str] | None:
    """(model, method) of the teacher, or None."""
    teacher = config.methods[method].teacher
    if teacher is None:
        return None
    first, _, second = teacher.partition("/")
    return (first, second) if second else (model, first)


def _check_methods(config: Config) -> None:
    for name, method in config.methods.items():
        key = f"methods.{name}"
        if method.parent is not None:
            _known(f"{key}.parent", method.parent, config.methods)
        if method.teacher is not None:
            model, _, teacher = method.teacher.rpartition("/")
            _known(f"{key}.teacher", teacher, config.methods)
            if model:
                _known(f"{key}.teacher", model, config.models)
    for model in config.models:
        for method in config.methods:
            _refuse_cycle(config, (model, method), [])


def _refuse_cycle(config: Config, node: tuple[str, str], path: list[tuple[str, str]]) -> None:
    if node in path:
        cycle = " -> ".join(method for _, method in [*path[path.index(node) :], node])
        raise UserError(
            f"configuration: methods.{node[1]}: its parent and teacher links come back to it ({cycle}); "
            "break the cycle with a method that needs neither"
        )
    model, method = node
    parent = config.methods[method].parent
    links = [(model, parent)] if parent else []
    teacher = teacher_of(config, model, method)
    for link in [*links, *([teacher] if teacher else [])]:
        _refuse_cycle(config, link, [*path, node])


def _check_selection(config: Config) -> None:
    chosen = config.benchmark
    for kind, names, catalogue in (
        ("datasets", chosen.datasets, config.datasets),
        ("models", chosen.models, config.models),
        ("methods", chosen.methods, config.methods),
    ):
        for name in names:
            _known(f"benchmark.{kind}", name, catalogue)
        _no_duplicates(f"benchmark.{kind}", names)
    _no_duplicates("benchmark.seeds", chosen.seeds)
    pairs = [f"{model}/{method}" for model in config.models for method in config.methods]
    for pair in chosen.skip:
        _known("benchmark.skip", pair, pairs)
    for dataset in chosen.datasets:
        _check_patch(config.patch, dataset, config.datasets[dataset])
    for dataset, numbers in chosen.folds.items():
        _known("benchmark.folds", dataset, config.datasets)
        _no_duplicates(f"benchmark.folds.{dataset}", numbers)
        valid = fold_numbers(config.datasets[dataset])
        for number in numbers:
            if number not in valid:
                nearest = min(valid, key=lambda fold: abs(fold - number))
                raise UserError(
                    f"configuration: benchmark.folds.{dataset}: fold {number} does not exist or has no subject;"
                    f" the nearest is {nearest} (of {', '.join(map(str, valid))})"
                )


def _check_patch(patch: Patch, name: str, dataset: Dataset) -> None:
    if dataset.manifest is not None and dataset.manifest.normalise == "none":
        return
    valid = ["eye"] if dataset.layout in EYE_LAYOUTS else ["eyes", "face"]
    if patch.kind not in valid:
        raise UserError(
            f"configuration: patch.kind: {patch.kind!r} cannot be cut from {name} (layout {dataset.layout}); "
            f"valid: {', '.join(map(repr, valid))}"
        )


def _no_duplicates(key: str, values: list) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"configuration: {key}: {value!r} is listed twice; remove one")


def _known(key: str, value: str, valid: Iterable[str]) -> None:
    valid = list(valid)
    if value not in valid:
        raise UserError(f"configuration: {key}: {value!r} does not exist; {_nearest(value, valid)}")


def _nearest(value: object, valid: list[str]) -> str:
    close = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(map(repr, valid))}"


def _explain(error: ValidationError, block: type[Block], prefix: tuple[str, ...] = ()) -> str:
    first = error.errors()[0]
    location = [part for part in first["loc"] if part != "[key]"]
    key = ".".join(map(str, [*prefix, *location])) or "top level"
    value = json.dumps(first["input"], default=str)
    value = value if len(value) <= 60 else value[:57] + "..."
    match first["type"]:
        case "extra_forbidden":
            valid = _fields_at(block, location[:-1])
            return f"configuration: {key}: unknown key with value {value}; {_nearest(location[-1], valid)}"
        case "missing":
            return f"configuration: {key}: is missing; add it"
        case "literal_error":
            valid = [choice.strip("'") for choice in first["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            return f"configuration: {key}: {value} is not valid; {_nearest(first['input'], valid)}"
        case _:
            reason = first["msg"].removeprefix("Value error, ")
            return f"configuration: {key}: {value} is not valid; {reason[0].lower()}{reason[1:]}"


def _fields_at(annotation: Any, location: list) -> list[str]:
    """Valid keys of the block at `location` below a block, following the annotations of its fields."""
    for part in location:
        if get_origin(annotation) in (dict, list):
            annotation = get_args(annotation)[-1]
        else:
            annotation = _plain(annotation).model_fields[str(part)].annotation
    return sorted(_plain(annotation).model_fields)


def _plain(annotation: Any) -> Any:
    """The block in `Block | None`."""
    return next((a for a in get_args(annotation) if a is not type(None)), annotation)


def read(path: str | Path) -> dict:
    """Read a YAML mapping; `UserError` names a file that is missing or is no mapping."""
    import yaml

    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not YAML ({' '.join(str(error).split())}); mend that line") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no mapping of keys to values; see config.yaml for the form")
    return value
