"""The stage `train`: a store and a split to a trained network."""

import csv
import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path

import torch

from gazepipe.common.files import atomic, write_json
from gazepipe.common.machine import machine, versions
from gazepipe.common.units import ERROR_UNIT
from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.methods.settings import Kinds, TrainSettings
from gazepipe.models.registry import build
from gazepipe.models.weights import save_weights
from gazepipe.training.device import (
    device_name,
    make_deterministic,
    memory_told,
    peak_memory_mb,
    resolve_device,
)
from gazepipe.training.distributed import Group, joined, state_of
from gazepipe.training.fit import HISTORY_COLUMNS, Fitted, derived_seed, fit
from gazepipe.training.inherit import description, load_like, spec_like
from gazepipe.training.method import Context, Kind, Network, regime
from gazepipe.training.samples import Samples, check_images, normalised_by, samples_of
from gazepipe.training.settings import Augmentation, Training
from gazepipe.training.state import State


def train(
    settings: TrainSettings,
    store: Path,
    split: Path,
    weights: Path,
    history: Path,
    facts: Path,
    parent: Path | None = None,
    teacher: Path | None = None,
    shape: Path | None = None,
    width: Path | None = None,
    unlabelled: list[Path] | None = None,
    state: Path | None = None,
    key: str = "",
    source: str = "",
) -> None:
    """Train one network.

    Writes its weights, a row of `history` (CSV) per epoch and the run's `facts` (JSON), each atomically. `parent` is a
    weights file to start from, `teacher` one to learn from, `shape` one whose network is trained from nothing; their
    networks may differ from the settings' in options and channels. `width` is the width.json of the parent's
    explanation; `unlabelled` are stores whose images a student sees besides. Subjects of the fold's roles train and
    validation are used; those of test are not looked at. Weights
    and history are a pure function of the arguments on one machine. `source` goes into the facts.

    `training.processes` above 1: this is one of so many processes, see `gazepipe.training.distributed.joined`; the
    first writes.

    A run that is killed continues from the file `state` when it is called again with the same `key`, which must
    stand for everything that the run depends on; a signal ends it with `Stopped` (exit status 143).

    Raises UserError where the parent is of another model, the teacher or the store of another input size, a teacher
    comes without a kind that learns from it or the other way round, likewise unlabelled images, a split subject is
    missing, or the loss is not finite.
    """
    started = time.monotonic()
    links = {"parent": parent, "teacher": teacher, "shape": shape, "width": width}
    files = {name: file for name, file in links.items() if file is not None}
    folder = weights.parent
    device = resolve_device(settings.device)
    make_deterministic()
    _check_teacher(settings.kinds, teacher, folder)
    if bool(unlabelled) != (settings.kinds.pseudo_labels is not None):
        raise UserError(f"{folder}: pseudo_labels and stores without labels go together; give both or neither")
    opened = open_store(store)
    samples = _samples(settings, opened, split)
    context = Context(
        settings.training,
        settings.augmentation,
        samples["train"],
        settings.seed,
        device,
        files,
        tuple(unlabelled or ()),
    )
    with joined(settings.training.processes, device) as group:
        run = _Run(settings, context, samples["validation"], folder, state_of(state, key, group), group)
        network = run.started()
        fitted = run.fit(network, settings.training, run.state)
    if not group.first:
        return
    epochs = [{**row, "epoch": number} for number, row in enumerate([*run.history, *fitted.history], 1)]
    save_weights(weights, *network, description(opened, samples["train"]))
    write_history(history, epochs)
    told = {
        "settings": settings.model_dump(mode="json"),
        "source": source,
        "machine": machine(),
        "packages": versions(),
        "device": device_name(device),
        "subjects": {role: len(set(some.subject)) for role, some in samples.items()},
        "samples": {role: len(some) for role, some in samples.items()},
        "unit": ERROR_UNIT[samples["train"].units],
        "best_epoch": len(run.history) + fitted.best_epoch,
        "epochs": len(epochs),
        "validation_error": fitted.validation_error,
        "validation_errors": fitted.validation_errors,
        "cycles": fitted.told,
        "precision": fitted.precision,
        "wall_seconds": round(time.monotonic() - started, 3),
        "training_seconds": round(fitted.seconds, 3),
        "resumes": fitted.resumes,
        "peak_memory_mb": peak_memory_mb(device),
    }
    write_json(facts, told)
    if run.state is not None:
        run.state.remove()


class _Run:
    """The trainings of one run: that of the network that is kept and, before it, those in which a pruned network
    recovers, whose epochs are the `history`.
    """

    def __init__(
        self,
        settings: TrainSettings,
        context: Context,
        validation: Samples,
        folder: Path,
        state: State | None,
        group: Group,
    ) -> None:
        self.settings, self.context, self.validation = settings, context, validation
        self.folder, self.state, self.group = folder, state, group
        self.history: list[dict] = []

    def started(self) -> Network:
        """The network that is kept, before its training."""
        network = _origin(self.settings, self.context)
        for kind in _kinds(self.settings.kinds, self.context).values():
            network = kind.start(network, self.recover)
        return network

    def fit(self, network: Network, training: Training, state: State | None) -> Fitted:
        """Train the network in place."""
        context = replace(self.context, training=training)
        model, spec = network[0].to(context.device), network[1]
        kinds = _kinds(self.settings.kinds, context)
        with memory_told(str(self.folder), training.batch_size):
            return fit(
                model,
                reduce(lambda samples, kind: kind.samples(samples), kinds.values(), context.samples),
                self.validation,
                regime(kinds, (model, spec), context, self.settings.augmentation),
                context.seed,
                context.device,
                label=str(self.folder),
                log_dir=self.folder / "tensorboard" / training.tag if training.tensorboard else None,
                state=state,
                group=self.group,
            )

    def recover(self, name: str, smaller: Callable[[], Network], epochs: int) -> Network:
        """See `gazepipe.training.method.Recover`; the state and what came of it are kept beside the run's."""
        names = [f"{name}-training", name]
        under_way, kept = (None if self.state is None else self.state.nested(name) for name in names)
        found = None if kept is None else kept.load("recovered")
        if found is None:
            model, spec = smaller()
            fitted = self.fit((model, spec), self.settings.training.model_copy(update={"epochs": epochs}), under_way)
            found = model.state_dict(), {"spec": spec, "history": fitted.history}
            if kept is not None:
                kept.save(*found)
        # Both ways through a network built anew: layouts in memory decide the order of sums.
        tensors, facts = found
        with torch.random.fork_rng(devices=[]):
            model = build(facts["spec"])
        model.load_state_dict(tensors)
        self.history += facts["history"]
        return model, facts["spec"]


def _origin(settings: TrainSettings, context: Context) -> Network:
    """The network that the run starts from: its parent's, one of the same shape, or a fresh one."""
    torch.manual_seed(derived_seed(settings.seed, "init"))
    if "parent" in context.files:
        model, metadata = load_like(context.files["parent"], settings.model)
        return model, metadata["model"]
    spec = spec_like(context.files["shape"], settings.model) if "shape" in context.files else settings.model
    return build(spec), spec


def _kinds(chosen: Kinds, context: Context) -> dict[str, Kind]:
    """The kinds of a method for one training, by name; each is loaded only where it is used."""
    made = {}
    for name, settings in chosen.chosen.items():
        module, _, kind = settings.code.partition(":")
        draws = torch.Generator().manual_seed(derived_seed(context.seed, name))
        made[name] = getattr(importlib.import_module(module), kind)(settings, context, draws)
    return made


def _samples(settings: TrainSettings, store: Store, split: Path) -> dict[str, Samples]:
    """The samples of the fold's roles train and validation; UserError where the network cannot learn from them."""
    check_images(store, settings.model["input"])
    subjects = read_split(split, settings.fold)
    samples = {role: samples_of(store, subjects[role]) for role in ("train", "validation")}
    samples = normalised_by(samples, settings.training.normalise)
    _check_augmentation(settings.augmentation, samples["train"])
    return samples


def _check_augmentation(augmentation: Augmentation, train: Samples) -> None:
    views = train.images.shape[1]
    if augmentation.flip > 0 and (train.units != "rad" or views > 1):
        raise UserError(
            f"augmentation.flip: {augmentation.flip}, but the mirror image of {views} views with a target in "
            f"{train.units} is no sample of this set; set it to 0"
        )


def _check_teacher(kinds: Kinds, teacher: Path | None, folder: Path) -> None:
    learners = [name for name, kind in kinds.chosen.items() if kind.needs == "teacher"]
    if bool(learners) != (teacher is not None):
        kind = f"{learners[0]} is set" if learners else "no kind learns from a teacher"
        raise UserError(f"{folder}: {kind} and the teacher is {teacher}; give both or neither")


def write_history(path: Path, history: list[dict]) -> None:
    """history.csv: one row of HISTORY_COLUMNS per epoch."""
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HISTORY_COLUMNS)
        for row in history:
            writer.writerow([row[name] if name == "epoch" else f"{row[name]:.6g}" for name in HISTORY_COLUMNS])
