"""Typed configuration: a catalogue (datasets, models, methods, training) and a selection (`benchmark`).

`load` turns the plain dict that YAML or Snakemake gives into a `Config`, or raises one `UserError` that names the key,
the value found and the nearest valid one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from gazepipe.config.messages import explain, nearest
from gazepipe.dag import paths
from gazepipe.datasets.settings import (
    EYE_LAYOUTS,
    VIEWS,
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
from gazepipe.models.registry import model_module

B = TypeVar("B", bound=Block)


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


class EarlyStopping(Block):
    """Training ends when the validation error has not fallen by more than `delta` (degrees or pixels) for `patience`
    epochs."""

    patience: Count = 10
    delta: NonNegative = 0.0


class Training(Block):
    """How any network is trained; a data set's, a model's or a method's own `training` overrides single keys.
    `normalise`: images by mean and deviation of the `store` (0.5, 0.5) or of the `training` subjects' pixels;
    `processes`: how many divide each batch of one run, with a GPU each, or `threads` each on the CPU; `tag` names a
    TensorBoard run."""

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
    loss: Literal["mse", "l2", "l1", "smooth_l1", "angular"] = "smooth_l1"
    early_stopping: EarlyStopping | None = None
    normalise: Literal["store", "training"] = "store"
    threads: Count = 1
    processes: Count = 1
    tensorboard: bool = False
    tag: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")] = ""


class Model(Block):
    """A network: `arch` is a registered name or a user's own `module:function`; `width` multiplies its channels;
    `options` are the network's own; `task`: whether it predicts gaze `angles` or a gaze `point` (left out: what
    the registered network does, `angles` for one's own); `methods`: in place of the benchmark's; `training`
    overrides keys of the top-level block."""

    arch: str
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    options: dict[str, Any] = {}
    task: Literal["angles", "point"] | None = None
    methods: list[Name] | None = None
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


class Shrink(Block):
    """A smaller network cut from the parent's. `embedding`: the first fully connected layer factored (`low_rank`) or
    without its least important dimensions (`dropped`); `width`: its new size, or `auto`, what `explain` found;
    `towers`: share of the channels that stay, chosen by `importance`."""

    embedding: Literal["low_rank", "dropped"] | None = None
    width: Literal["auto"] | Count = "auto"
    towers: Annotated[float, Field(gt=0, le=1)] = 1.0
    importance: Literal["taylor", "l2", "cosine"] = "taylor"


class Structural(Block):
    """Structural pruning of the parent's network: the `ratio` of its full size's multiply-adds (`macs`) or parameters
    that is left, in `steps` prunings that divide the cost alike, with `epochs` of training after each but the last,
    which has `training.epochs`; channels by `importance`, the same share of each group (`local`) or wherever they
    matter least (`global`), in multiples of `round_to`."""

    target: Literal["macs", "params"] = "macs"
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    importance: Literal["taylor", "l2", "cosine", "geometric_median"] = "taylor"
    scope: Literal["global", "local"] = "global"
    round_to: Count = 8
    steps: Annotated[int, Field(ge=1, le=16)] = 1
    epochs: Count = 2


class Explain(Block):
    """What is read from a trained near-eye network: samples drawn as heat maps, trees of the random forest, widths that
    are tried, and the relative loss of validation error at which a width still counts as good."""

    samples: Count = 4
    trees: Count = 100
    widths: Annotated[list[Count], Field(min_length=1)] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    tolerance: NonNegative = 0.02


class Method(Block):
    """A node of the DAG: what is done (`kd`, `rebirth`, `shrink`, `structural`), from which weights (`parent`), taught
    by whom (`teacher`: a method of the same model, or `model/method`); `shape`: start from nothing, as the network that
    this other method makes; `training` overrides keys of the top-level block."""

    parent: Name | None = None
    shape: Name | None = None
    shrink: Shrink | None = None
    structural: Structural | None = None
    teacher: Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)?$")] | None = None
    kd: KD | None = None
    rebirth: Rebirth | None = None
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _teacher_and_kd(self) -> "Method":
        if (self.kd is None) != (self.teacher is None):
            raise ValueError("'kd' and 'teacher' go together")
        for part in ("rebirth", "shrink", "structural"):
            if getattr(self, part) is not None and self.parent is None:
                raise ValueError(f"'{part}' starts from trained weights: name a 'parent'")
        if self.shape is not None and self.parent is not None:
            raise ValueError("'shape' starts from nothing, 'parent' from weights: name one of them")
        if len({"rebirth", "shrink", "structural"} & self.model_dump(exclude_none=True).keys()) > 1:
            raise ValueError("'rebirth', 'shrink' and 'structural' each change the network: use one in a method")
        return self

    @property
    def makes_a_shape(self) -> bool:
        """Whether the network that comes out is smaller than the parent's."""
        return self.shrink is not None or self.structural is not None


class Profiling(Block):
    """Timing of the networks: batch sizes, seconds per measurement, threads (0: all cores of the machine)."""

    batches: list[Count] = [1, 8]
    seconds: Positive = 2.0
    threads: Annotated[int, Field(ge=0)] = 0


class FineTuning(Block):
    """Training on with rounded weights and activations."""

    epochs: Count = 3
    learning_rate: Positive = 1e-4


class Deploy(Block):
    """Export: training samples that int8 ranges are read from, the relative loss of validation error that int8 may
    cost, and the fine-tuning (null: none) where it costs more."""

    calibration: Count = 256
    tolerance: NonNegative = 0.01
    fine_tuning: FineTuning | None = FineTuning()


class Statistics(Block):
    """Bootstrap over subjects."""

    resamples: Annotated[int, Field(ge=1000)] = 10_000
    seed: Seed = 0


class Benchmark(Block):
    """The selection that goes into the tables. `folds` per data set: a list, or all folds where it is left out;
    `skip`: pairs `model/method` that make no sense together; `deploy`: pairs that are exported, tested through every
    runtime and timed against each other, the first being the one that others are compared with."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    models: Annotated[list[Name], Field(min_length=1)]
    methods: Annotated[list[Name], Field(min_length=1)]
    folds: dict[Name, Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = {}
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    skip: list[str] = []
    deploy: list[str] = []


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
    explain: Explain = Explain()
    deploy: Deploy = Deploy()
    benchmark: Benchmark


# Folder names that `results/` itself uses: a run of that name would mix with the default run's own folders.
RESERVED_RUNS = {*paths.FOLDERS, "deploy", "logs", "benchmarks"}
POINT_NETWORKS = {"itracker4"}


def load(raw: dict[str, Any]) -> Config:
    """Validate a configuration; raises `UserError` with one line: key, value, nearest valid one."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(explain(error, Config)) from None
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
            _merge(config.training, entry.training, (kind, name, "training"))
    for name, entry in config.datasets.items():
        _merge(config.augmentation, entry.augmentation, ("datasets", name, "augmentation"))
    _check_selection(config)
    return config


def load_files(files: Iterable[str | Path]) -> Config:
    """The configuration as Snakemake makes it: `config.yaml`, and each of `files` on top."""
    raw = read("config.yaml")
    for file in files:
        raw = merged(raw, read(file))
    return load(raw)


def merged(base: dict, overlay: dict) -> dict:
    """`base` with the keys of `overlay`: mappings key by key, everything else as a whole."""
    both = {**base, **overlay}
    for key in base.keys() & overlay.keys():
        if isinstance(base[key], dict) and isinstance(overlay[key], dict):
            both[key] = merged(base[key], overlay[key])
    return both


def training_of(config: Config, dataset: str, model: str, method: str) -> Training:
    """The training block of a run: the top-level one, overridden by the data set's, the model's, then the method's."""
    merged = config.training
    for kind, name in (("datasets", dataset), ("models", model), ("methods", method)):
        merged = _merge(merged, getattr(config, kind)[name].training, (kind, name, "training"))
    return merged


def augmentation_of(config: Config, dataset: str) -> Augmentation:
    """The augmentation of a data set's runs: the top-level block, overridden by the data set's."""
    own = config.datasets[dataset].augmentation
    return _merge(config.augmentation, own, ("datasets", dataset, "augmentation"))


def _merge(base: B, override: dict[str, Any], location: tuple[str, ...]) -> B:
    try:
        return type(base).model_validate({**base.model_dump(), **override})
    except ValidationError as error:
        raise UserError(explain(error, type(base), location)) from None


def patch_of(config: Config, dataset: str) -> Patch:
    """What networks see of a data set."""
    return config.datasets[dataset].patch or config.patch


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
        for link in ("parent", "shape"):
            if getattr(method, link) is not None:
                _known(f"{key}.{link}", getattr(method, link), config.methods)
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
            f"configuration: methods.{node[1]}: its parent, shape and teacher links come back to it ({cycle}); "
            "break the cycle with a method that needs neither"
        )
    model, method = node
    entry = config.methods[method]
    links = [(model, link) for link in (entry.parent, entry.shape) if link]
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
    _no_duplicates("benchmark.deploy", chosen.deploy)
    for pair in chosen.deploy:
        _known("benchmark.deploy", pair, ["/".join(selected) for selected in networks(config)])
    for model in chosen.models:
        for method in config.models[model].methods or []:
            _known(f"models.{model}.methods", method, config.methods)
    for dataset in chosen.datasets:
        _check_patch(config, dataset, config.datasets[dataset])
        if not networks_for(config, dataset):
            task = config.datasets[dataset].task
            raise UserError(f"configuration: benchmark.models: none of them predicts the {task} of {dataset}; add one")
    for dataset, numbers in chosen.folds.items():
        _known("benchmark.folds", dataset, config.datasets)
        _no_duplicates(f"benchmark.folds.{dataset}", numbers)
        valid = fold_numbers(config.datasets[dataset])
        for number in numbers:
            if number not in valid:
                closest = min(valid, key=lambda fold: abs(fold - number))
                raise UserError(
                    f"configuration: benchmark.folds.{dataset}: fold {number} does not exist or has no subject;"
                    f" the nearest is {closest} (of {', '.join(map(str, valid))})"
                )


def _check_patch(config: Config, name: str, dataset: Dataset) -> None:
    patch, key = patch_of(config, name), f"datasets.{name}.patch" if dataset.patch else "patch"
    first = selected_with(config, name)[0]
    if patch != patch_of(config, first):
        raise UserError(
            f"configuration: {key}: {name} and {first} have different patches, but networks are tested across them; "
            "give both the same, or select one of them"
        )
    if dataset.manifest is not None and dataset.manifest.normalise == "none":
        return
    angles = ["eye"] if dataset.layout in EYE_LAYOUTS else ["eyes", "face"]
    valid = ["near-eye"] if dataset.task == "point" else angles
    if patch.kind not in valid:
        raise UserError(
            f"configuration: {key}.kind: {patch.kind!r} cannot be cut from {name} (layout {dataset.layout}); "
            f"valid: {', '.join(map(repr, valid))}"
        )


def _no_duplicates(key: str, values: list) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"configuration: {key}: {value!r} is listed twice; remove one")


def _known(key: str, value: str, valid: Iterable[str]) -> None:
    valid = list(valid)
    if value not in valid:
        raise UserError(f"configuration: {key}: {value!r} does not exist; {nearest(value, valid)}")


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
