"""Reading and checking a configuration.

`load` turns the plain dict that YAML or Snakemake gives into a `Config`, or raises one `UserError` that names the key,
the value found and the nearest valid one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gazepipe.config import select
from gazepipe.config.messages import explain, nearest
from gazepipe.config.schema import Config, Dataset, Method
from gazepipe.datasets.layouts.settings import LAYOUTS
from gazepipe.errors import UserError
from gazepipe.evaluation.settings import CONTROLS, NO_METHOD
from gazepipe.models.registry import model_module

RESERVED_RUNS = {
    *("data", "splits", "runs", "predictions", "profiles", "explain", "deploy", "deployed", "figures", "tables"),
    *("logs", "benchmarks", "robustness", "jitter"),
}
"""Folders that `results/` itself uses: a run of that name would mix with the default run's own folders."""


def load(raw: dict[str, Any]) -> Config:
    """Validate a configuration; raises `UserError` with one line: key, value, nearest valid one."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(explain(error, Config)) from None
    if config.run in RESERVED_RUNS:
        raise UserError(f"configuration: run: {config.run!r} is a folder of the default run; choose another name")
    _check_names(config)
    for name, model in config.models.items():
        try:
            model_module(model.arch)
        except UserError as error:
            raise UserError(f"configuration: models.{name}.arch: {error}") from None
    _check_methods(config)
    for kind in ("datasets", "models", "methods"):
        for name, entry in getattr(config, kind).items():
            select.overridden(config.training, entry.training, (kind, name, "training"))
    for name, entry in config.datasets.items():
        select.overridden(config.augmentation, entry.augmentation, ("datasets", name, "augmentation"))
    _check_selection(config)
    _check_unlabelled(config)
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


def read(path: str | Path) -> dict:
    """Read a YAML mapping; `UserError` names a file that is missing or is no mapping."""
    import yaml

    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not YAML ({' '.join(str(error).split())}); correct that line") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no mapping of keys to values; see config.yaml for the form")
    return value


def _check_names(config: Config) -> None:
    """Results without a network lie where those of a model and method of these names would."""
    for kind, reserved in (("models", CONTROLS), ("methods", (NO_METHOD,))):
        for name in getattr(config, kind):
            if name in reserved:
                raise UserError(f"configuration: {kind}.{name}: the name stands for a control; choose another")


def _check_methods(config: Config) -> None:
    for name, method in config.methods.items():
        key = f"methods.{name}"
        for link in ("parent", "shape", "control"):
            if getattr(method, link) is not None:
                _known(f"{key}.{link}", getattr(method, link), config.methods)
        if method.teacher is not None:
            model, _, teacher = method.teacher.rpartition("/")
            _known(f"{key}.teacher", teacher, config.methods)
            if model:
                _known(f"{key}.teacher", model, config.models)
        _refuse_control_cycle(config, name)
        _check_unlabelled_names(config, f"{key}.unlabelled", method)
    for model in config.models:
        for method in config.methods:
            _refuse_cycle(config, (model, method), [])


def _check_unlabelled_names(config: Config, key: str, method: Method) -> None:
    given = {key: method.unlabelled}
    if isinstance(method.unlabelled, dict):
        for dataset in method.unlabelled:
            _known(key, dataset, config.datasets)
        given = {f"{key}.{dataset}": names for dataset, names in method.unlabelled.items()}
    for place, names in given.items():
        for name in names:
            _known(place, name, config.datasets)
        _no_duplicates(place, names)


def _refuse_control_cycle(config: Config, method: str) -> None:
    path = [method]
    while (control := config.methods[path[-1]].control) in config.methods and control not in path:
        path.append(control)
    if control in path:
        cycle = " -> ".join([*path[path.index(control) :], control])
        raise UserError(
            f"configuration: methods.{method}.control: its controls come back to {control} ({cycle}); "
            "name a method that trains as long without the idea"
        )


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
    teacher = select.teacher_of(config, model, method)
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
        _known("benchmark.deploy", pair, ["/".join(selected) for selected in select.networks(config)])
    tested = config.robustness.networks or []
    _no_duplicates("robustness.networks", tested)
    for pair in tested:
        _known("robustness.networks", pair, ["/".join(selected) for selected in select.networks(config)])
    for model in chosen.models:
        for method in config.models[model].methods or []:
            _known(f"models.{model}.methods", method, config.methods)
    for dataset in chosen.datasets:
        _check_patch(config, dataset, config.datasets[dataset])
        if not select.networks_for(config, dataset):
            task = config.datasets[dataset].task
            raise UserError(f"configuration: benchmark.models: none of them predicts the {task} of {dataset}; add one")
    for dataset, numbers in chosen.folds.items():
        _known("benchmark.folds", dataset, config.datasets)
        _no_duplicates(f"benchmark.folds.{dataset}", numbers)
        valid = select.fold_numbers(config.datasets[dataset])
        for number in numbers:
            if number not in valid:
                closest = min(valid, key=lambda fold: abs(fold - number))
                raise UserError(
                    f"configuration: benchmark.folds.{dataset}: fold {number} does not exist or has no subject;"
                    f" the nearest is {closest} (of {', '.join(map(str, valid))})"
                )


def _check_unlabelled(config: Config) -> None:
    """What a selected network, or one that it goes back to, sees without labels is tested by none, and looks alike."""
    for model, method in select.with_ancestors(config):
        key = f"methods.{method}.unlabelled"
        _check_unlabelled_of_each(config, model, method, key)
        for name in _seen_without_labels(config, model, method):
            if name in config.benchmark.datasets:
                raise UserError(
                    f"configuration: {key}: networks are tested on {name}, whose images this method would have seen; "
                    "name a data set that is not in benchmark.datasets"
                )
            for dataset in config.benchmark.datasets:
                task = select.task_of(config.models[model])
                alike = select.patch_of(config, name) == select.patch_of(config, dataset)
                if config.datasets[dataset].task == task and not alike:
                    raise UserError(
                        f"configuration: {key}: {name} and {dataset} have different patches; give both the same"
                    )
            _check_cut(config, name, config.datasets[name])


def _seen_without_labels(config: Config, model: str, method: str) -> list[str]:
    seen = [name for dataset in _trained_on(config, model) for name in config.methods[method].unlabelled_for(dataset)]
    return list(dict.fromkeys(seen))


def _check_unlabelled_of_each(config: Config, model: str, method: str, key: str) -> None:
    for dataset in _trained_on(config, model):
        if config.methods[method].pseudo_labels and not config.methods[method].unlabelled_for(dataset):
            raise UserError(
                f"configuration: {key}: names nothing for {dataset}, which this method is trained on; name data sets"
            )


def _trained_on(config: Config, model: str) -> list[str]:
    task = select.task_of(config.models[model])
    return [name for name in config.benchmark.datasets if config.datasets[name].task == task]


def _check_patch(config: Config, name: str, dataset: Dataset) -> None:
    patch, key = select.patch_of(config, name), f"datasets.{name}.patch" if dataset.patch else "patch"
    first = select.selected_with(config, name)[0]
    if patch != select.patch_of(config, first):
        raise UserError(
            f"configuration: {key}: {name} and {first} have different patches, but networks are tested across them; "
            "give both the same, or select one of them"
        )
    _check_cut(config, name, dataset)


def _check_cut(config: Config, name: str, dataset: Dataset) -> None:
    if dataset.manifest is not None and dataset.manifest.normalise == "none":
        return
    patch, key = select.patch_of(config, name), f"datasets.{name}.patch" if dataset.patch else "patch"
    valid = LAYOUTS[dataset.layout].patches
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
