"""How much work each job is, from the configuration alone: numbers of images, pixels, multiply-adds.

Nothing is computed and nothing large is imported: a dry run of a thousand jobs asks for all of them. `costs` turns the
amounts into seconds and megabytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import TYPE_CHECKING

from gazepipe.config import select
from gazepipe.dag import runs
from gazepipe.dag.stage import Job, made
from gazepipe.models.settings import Spec

if TYPE_CHECKING:
    from gazepipe.config.schema import Config, Dataset
    from gazepipe.dag.plan import Plan

Amounts = dict[str, float]


@dataclass(frozen=True)
class Work:
    """What the time of a job grows with, and what its memory grows with, by name."""

    seconds: Amounts
    memory: Amounts


def work(plan: Plan, job: Job) -> Work:
    """The amounts of one job. `start` is 1: what every job of the stage costs, whatever it does."""
    found = WORK.get(job.stage)
    seconds, memory = found(plan, **dict(job.wildcards)) if found else ({}, {})
    return Work({"start": 1.0, **seconds}, {"start": 1.0, **memory})


# ---- networks


@dataclass(frozen=True)
class Network:
    """Multiply-adds of one image per pixel, `linear` * w + `square` * w^2 at width w, and numbers in all its maps per
    pixel at width 1. Below the width `least` a network does not become smaller.

    Fitted to `profiling.cost.count` and to the outputs of all layers, over widths and sizes; within 35 %.
    """

    linear: float
    square: float
    maps: float
    least: float = 0.125


NETWORKS = {
    "resnet18": Network(783, 36300, 165),
    "resnet10_wide": Network(578, 42222, 430),
    "mobile_gaze": Network(800, 1500, 190, 0.25),
    "simvit": Network(809, 12502, 235, 0.25),
    "itracker4": Network(230, 407, 3.4, 0.0625),
}
UNKNOWN = NETWORKS["resnet18"]
"""Stands for networks of one's own."""


def billions(spec: Spec, share: float = 1.0) -> Amounts:
    """Multiply-adds (`gigamacs`) and numbers in maps (`gigamaps`) of one image, in 10^9; `share` of the multiply-adds
    is left after pruning."""
    views, height, width_px = spec["input"]
    network = NETWORKS.get(spec["arch"], UNKNOWN)
    width = max(spec.get("width", 1.0), network.least)
    pixels = views * height * width_px / 1e9
    macs = network.linear * width + network.square * width**2
    return {"gigamacs": share * macs * pixels, "gigamaps": share**0.5 * network.maps * width * pixels}


def share_left(config: Config, method: str) -> float:
    """The share of the multiply-adds of a model that its network has with a method."""
    node = config.methods[runs.shape_maker(config, method)]
    left = 1.0
    if node.structural is not None:
        left = node.structural.ratio
    elif node.shrink is not None:
        left = node.shrink.towers**2
    return left * share_left(config, node.parent) if node.makes_a_shape and node.parent else left


def _times(amounts: Amounts, count: float) -> Amounts:
    return {name: count * value for name, value in amounts.items()}


def _sum(*several: Amounts) -> Amounts:
    total: Amounts = {}
    for amounts in several:
        for name, value in amounts.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _network(plan: Plan, dataset: str, model: str, method: str) -> Amounts:
    entry = plan.config.models[model]
    patch = select.patch_of(plan.config, dataset)
    spec: Spec = {"arch": entry.arch, "width": entry.width, "input": select.input_shape(patch)}
    return billions(spec, share_left(plan.config, method))


# ---- data sets

PUBLISHED = {
    "columbia": 105,
    "mpiifacegaze": 3000,
    "ethxgaze": 9457,
    "mpiigaze": 3000,
    "mpiigaze-npz": 3000,
    "near-eye": 200,
    "manifest": 200,
}
"""Images of each subject in a real data set of a layout: as published, or a guess where everybody has their own."""
DRAWN = {"ethxgaze": 80, "manifest": 80, "mpiifacegaze": 80, "mpiigaze": 80, "near-eye": 40}
"""Images of each subject that renderers draw unless told; Columbia's number is fixed."""
FULL = {"columbia": (5184, 3456), "near-eye": (720, 576), "mpiigaze": (60, 36), "mpiigaze-npz": (60, 36)}
"""Width and height of a real picture, px, where `scale` makes it smaller."""
SIDE = {"mpiifacegaze": (256, 448), "ethxgaze": (224, 224), "manifest": (640, 1280)}
"""Side of a picture, px, where `size` gives it: drawn and real."""
SCALE = {"columbia": 0.125, "near-eye": 0.5}
FOUND = ("columbia", "manifest")
"""Layouts whose faces are found in the pictures."""
HELD_OUT = {"validation": 0.12, "test": 0.18}
"""Share of the subjects of a near-eye data set, whose own folders say who trains."""


@cache
def images(plan: Plan, dataset: str) -> int:
    """Images (of near-eye data: groups of four) of a data set: of its store where one of real data is there, else as
    many as are drawn or published."""
    entry = plan.config.datasets[dataset]
    if entry.source.drawn is None:
        stored = _stored(plan.path(made("prepare", "store", dataset=dataset)))
        return stored or entry.subjects * PUBLISHED[entry.layout]
    return entry.subjects * (entry.source.drawn.images or DRAWN.get(entry.layout, PUBLISHED[entry.layout]))


def _stored(path: str) -> int:
    """Images of a store; 0 where there is none that can be read."""
    if not os.path.exists(path):
        return 0
    import h5py

    try:
        with h5py.File(path) as file:
            return len(file["image"])
    except (OSError, KeyError):
        return 0


def picture_megapixels(entry: Dataset) -> float:
    """Megapixels of one picture as the data set comes."""
    drawn = entry.source.drawn
    if entry.layout in SIDE:
        side = SIDE[entry.layout][drawn is None]
        side = (drawn.size or side) if drawn else side
        return side * side * (0.75 if entry.layout == "manifest" else 1.0) / 1e6
    width, height = FULL[entry.layout]
    scale = (drawn.scale or SCALE.get(entry.layout, 1.0)) if drawn else 1.0
    return width * height * scale**2 / 1e6


def _views(entry: Dataset) -> int:
    return 4 if entry.layout == "near-eye" else 1


def megapixels(plan: Plan, dataset: str) -> float:
    """Megapixels of a sample of the store, over all its views."""
    views, height, width = select.input_shape(select.patch_of(plan.config, dataset))
    return views * height * width / 1e6


@cache
def images_by_role(plan: Plan, dataset: str, fold: int) -> dict[str, float]:
    """Images of the roles train, validation and test in a fold."""
    entry = plan.config.datasets[dataset]
    subjects = entry.subjects
    if entry.split.protocol == "given":
        held = {role: max(1, round(share * subjects)) for role, share in HELD_OUT.items()}
    elif entry.split.by == "day":
        test = subjects / entry.split.folds
        held = {"test": test, "validation": entry.split.validation * (subjects - test)}
    else:
        test = select.tested_subjects(entry, fold)
        held = {"test": test, "validation": max(1, round(entry.split.validation * (subjects - test)))}
    each = images(plan, dataset) / subjects
    return {"train": max(1.0, each * (subjects - sum(held.values()))), **{name: n * each for name, n in held.items()}}


# ---- stages: what time grows with, what memory grows with

Both = tuple[Amounts, Amounts]


def _fetch(plan: Plan, dataset: str) -> Both:
    entry = plan.config.datasets[dataset]
    if entry.source.drawn is None:
        archives = entry.source.url.archives if entry.source.url else []
        return {"gigabytes": sum(archive.size or 0 for archive in archives) / 1e9}, {}
    pictures, size = images(plan, dataset) * _views(entry), picture_megapixels(entry)
    return {"pictures": pictures, "megapixels": pictures * size}, {"megapixels": size}


def _prepare_part(plan: Plan, dataset: str, part: str) -> Both:
    entry = plan.config.datasets[dataset]
    count, size = images(plan, dataset) / len(plan.parts(dataset)), picture_megapixels(entry)
    pictures = count * _views(entry)
    found = {"faces": count} if entry.layout in FOUND else {}
    seconds = {"pictures": pictures, "megapixels": pictures * size, **found}
    # What finds faces is loaded once.
    memory = {"megapixels": size, "store": count * megapixels(plan, dataset), "finder": float(bool(found))}
    return seconds, memory


def _prepare(plan: Plan, dataset: str) -> Both:
    stored = images(plan, dataset) * megapixels(plan, dataset)
    return {"store": stored}, {"store": stored / len(plan.parts(dataset))}


def _sheet(plan: Plan, dataset: str) -> Both:
    size = picture_megapixels(plan.config.datasets[dataset])
    return {"megapixels": size}, {"megapixels": size}


def _train(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> Both:
    config, node = plan.config, plan.config.methods[method]
    job = Job.of("train", dataset=dataset, model=model, method=method, fold=fold, seed=seed)
    training = plan.settings(job).training
    own, roles = _network(plan, dataset, model, method), images_by_role(plan, dataset, int(fold))
    epochs, size = node.epochs_of(training.epochs), megapixels(plan, dataset)
    seen = roles["train"] * epochs * node.images(dataset)
    looked = [_times(own, roles["validation"] * epochs)]
    extra = 0.0
    teacher = select.teacher_of(config, model, method)
    if teacher:
        taught = _network(plan, dataset, *teacher)
        if node.kd is not None:
            looked.append(_times(taught, seen))
        if node.pseudo_labels is not None:
            views = 10 if node.pseudo_labels.average else 1
            extra = sum(images(plan, other) for other in node.unlabelled_for(dataset))
            looked.append(_times(taught, views * extra))
    if epochs == 0:  # batch statistics
        looked.append(_times(own, roles["train"]))
    # Forward and backward: three times the forward pass alone.
    passes = _sum(_times(own, 3 * seen), *looked)
    steps = ceil(roles["train"] / training.batch_size) * epochs
    stored = (images(plan, dataset) + extra) * size
    held = {"store": stored, "batch": training.batch_size * node.images(dataset) * own["gigamaps"] * 1e3}
    return {**passes, "steps": steps, "augmented": seen, "augmented_megapixels": seen * size}, held


def _predicted(plan: Plan, dataset: str, fold: str) -> dict[str, float]:
    """Images of each data set that what learnt from `dataset` is tested on."""
    return {
        name: images_by_role(plan, name, int(fold))["test"] if name == dataset else images(plan, name)
        for name in select.selected_with(plan.config, dataset)
    }


def _predict(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> Both:
    count, size = sum(_predicted(plan, dataset, fold).values()), megapixels(plan, dataset)
    own = _network(plan, dataset, model, method)
    return {**_times(own, count), "images": count}, {"batch": 64 * own["gigamaps"] * 1e3, "store": count * size}


def _predict_control(plan: Plan, dataset: str, model: str, fold: str, seed: str) -> Both:
    count, size = sum(_predicted(plan, dataset, fold).values()), megapixels(plan, dataset)
    if model != "ridge":
        return {"images": count}, {}
    learnt = images_by_role(plan, dataset, int(fold))["train"]
    # Larger images are averaged over blocks: at most 4096 features.
    features = min(size * 1e6, 4096)
    products = learnt * features * min(learnt, features) / 1e9
    numbers = {"squares": min(learnt, features) ** 2 / 1e6, "features": learnt * features / 1e6, "batch": 512 * size}
    return {"images": count, "read": (count + learnt) * size, "products": products}, numbers


def _robustness(plan: Plan, dataset: str, model: str, method: str) -> Both:
    settings, all_runs = plan.config.robustness, runs.of_network(plan.config, dataset, model, method)
    subjects = plan.config.datasets[dataset].subjects
    own, size = _network(plan, dataset, model, method), megapixels(plan, dataset)
    seen = 0.0
    for run in all_runs:
        share = images_by_role(plan, dataset, int(run["fold"]))["test"] / images(plan, dataset)
        seen += share * subjects * (settings.samples * 19 + settings.jitter.samples * settings.jitter.repeats)
    folds = len({run["fold"] for run in all_runs})
    drawn = seen * folds / len(all_runs)
    seconds = {**_times(own, seen), "corrupted": drawn, "corrupted_megapixels": drawn * size}
    return seconds, {"batch": 64 * own["gigamaps"] * 1e3, "corrupted": drawn * size}


def _corruptions(plan: Plan, dataset: str) -> Both:
    size = megapixels(plan, dataset)
    return {"megapixels": size}, {"megapixels": size}


def _profile(plan: Plan, model: str, method: str) -> Both:
    settings = plan.settings(Job.of("profile", model=model, method=method))
    largest = {"gigamacs": 0.0, "gigamaps": 0.0}
    for spec in settings.sizes.values():
        largest = {name: max(value, largest[name]) for name, value in billions(spec).items()}
    batch = max(settings.batches)
    timed = len(settings.sizes) * len(settings.batches)
    passes = _times(largest, batch * 5)
    return {**passes, "timed": timed * settings.seconds}, {"batch": batch * largest["gigamaps"] * 1e3}


def _explain(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> Both:
    roles, own = images_by_role(plan, dataset, int(fold)), _network(plan, dataset, model, method)
    count, size = sum(roles.values()), megapixels(plan, dataset)
    settings = plan.config.explain
    heat_maps = {"heat_maps": settings.samples * size}
    tried = {"recovered": len(settings.widths) * (roles["train"] + roles["validation"]) / 1e3}
    return {**_times(own, count), **heat_maps, **tried}, {"store": count * size, "heat_maps": size}


def _exported(plan: Plan, dataset: str, model: str, method: str, fold: str, rows: float, files: int) -> Both:
    own, size = _network(plan, dataset, model, method), megapixels(plan, dataset)
    training, deploy = select.training_of(plan.config, dataset, model, method), plan.config.deploy
    roles = images_by_role(plan, dataset, int(fold))
    passes = files * rows + deploy.calibration
    tuned = roles["train"] * deploy.fine_tuning.epochs if deploy.fine_tuning else 0
    # Whether int8 has to be trained for is not known before: count half of it.
    seconds = {**_times(own, passes + 1.5 * tuned), "augmented": 0.5 * tuned}
    held = {"store": images(plan, dataset) * size, "batch": training.batch_size * own["gigamaps"] * 1e3}
    return seconds, held


def _export(plan: Plan, dataset: str, model: str, method: str) -> Both:
    run = runs.first(plan.config, dataset, model, method)
    roles = images_by_role(plan, dataset, int(run["fold"]))
    return _exported(plan, dataset, model, method, run["fold"], roles["test"] + roles["validation"], 5)


def _export_errors(plan: Plan, dataset: str, model: str, method: str, fold: str, seed: str) -> Both:
    roles = images_by_role(plan, dataset, int(fold))
    return _exported(plan, dataset, model, method, fold, roles["test"] + roles["validation"], 5)


def _speed(plan: Plan, dataset: str) -> Both:
    settings = plan.settings(Job.of("speed", dataset=dataset))
    # Five runtimes and precisions of each network, and eager ResNet-18 beside them.
    timed = (5 * len(settings.networks) + 1) * len(settings.batches)
    return {"timed": timed * settings.seconds}, {"networks": len(settings.networks)}


def _tables(plan: Plan) -> Both:
    config = plan.config
    pairs = [(name, pair) for name in config.benchmark.datasets for pair in select.networks_for(config, name)]
    rows = 0.0
    trainings = 0
    for dataset, (model, method) in pairs:
        for run in runs.of_network(config, dataset, model, method):
            rows += sum(_predicted(plan, dataset, run["fold"]).values())
            trainings += 1
    figures = sum(path.endswith(".svg") for path in plan.outputs(Job.of("tables")).values())
    seconds = {"rows": rows / 1e3, "figures": figures, "networks": len(pairs), "trainings": trainings}
    return seconds, {"rows": rows / 1e3}


def _page(plan: Plan) -> Both:
    return {"networks": len(runs.networks(plan.config))}, {}


WORK: dict[str, Callable[..., Both]] = {
    "fetch": _fetch,
    "prepare_part": _prepare_part,
    "prepare": _prepare,
    "sheet": _sheet,
    "train": _train,
    "predict": _predict,
    "predict_control": _predict_control,
    "robustness": _robustness,
    "corruptions": _corruptions,
    "profile": _profile,
    "explain": _explain,
    "export": _export,
    "export_errors": _export_errors,
    "speed": _speed,
    "tables": _tables,
    "page": _page,
}
"""The amounts of a stage's jobs; the others take the same whatever the configuration: they only start."""
