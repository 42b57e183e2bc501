"""The stage `train`: a store, a split and a block of configuration to a run folder."""

import csv
import importlib
import platform
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from gazepipe.common.files import atomic, write_json
from gazepipe.common.units import ERROR_UNIT
from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.methods.settings import MODULES
from gazepipe.models.registry import build
from gazepipe.models.weights import save_weights
from gazepipe.training.device import device_name, make_deterministic, peak_memory_mb, resolve_device
from gazepipe.training.distributed import Group, joined, state_of
from gazepipe.training.fit import HISTORY_COLUMNS, Fitted, derived_seed, fit
from gazepipe.training.inherit import description, load_like, load_teacher, spec_like
from gazepipe.training.losses import loss_of, supervised
from gazepipe.training.samples import Samples, check_images, normalised_by, samples_of
from gazepipe.training.state import State


def train(
    block: dict,
    store: Path,
    split: Path,
    out: Path,
    parent: Path | None,
    teacher: Path | None,
    record: dict | None = None,
    *,
    shape: Path | None = None,
    width: Path | None = None,
    state: Path | None = None,
    key: str = "",
) -> None:
    """Train one network and write `model.safetensors`, `history.csv` and `run.json` into `out`, each
    atomically.

    `block` is {"model": {"arch", "width", "input": [V, H, W]}, "training": see `gazepipe.training.fit.fit`,
    plus `loss`, `normalise` (images by mean and deviation of the "store", or of the "training" pixels),
    `tensorboard` and `tag`, "kd": see `gazepipe.methods.distillation.prepare` or None, "rebirth": see
    `gazepipe.methods.rebirth.prepare` or None, "shrink": see `gazepipe.methods.shrink.shrink.shrink` or None,
    "structural": see `gazepipe.methods.structural.steps.prune_in_steps` or None, "device": auto, cpu, cuda or mps,
    "fold", "seed"}. `parent` is a weights file to start from, `teacher` one to learn from, `shape` one whose network is
    trained from nothing; their networks may differ from the block's in options and channels. `width` is handed to
    `shrink`. Subjects of the fold's roles train and validation are used; those of test are not looked at. `record`
    goes into run.json. Weights and history are a pure function of the arguments on one machine.

    `training.processes` above 1: this is one of so many processes, see `gazepipe.training.distributed.joined`; the
    first writes.

    A run that is killed continues from the file `state` when it is called again with the same `key`, which must
    stand for everything that the run depends on; a signal ends it with `Stopped` (exit status 143).

    Raises UserError where the parent is of another model, the teacher or the store of another input size,
    `kd` and `teacher` do not come together, a split subject is missing, or the loss is not finite.
    """
    started = time.monotonic()
    device, seed, fold = resolve_device(block["device"]), block["seed"], block["fold"]
    make_deterministic()
    training = block["training"]
    if (block.get("kd") is None) != (teacher is None):
        raise UserError(f"{out}: kd is {block.get('kd')} and the teacher {teacher}; give both or neither")
    opened = open_store(store)
    check_images(opened, block["model"]["input"])
    roles = read_split(split, fold)
    samples = {role: samples_of(opened, roles[role]) for role in ("train", "validation")}
    samples = normalised_by(samples, training.get("normalise", "store"))
    _check_augmentation(training["augmentation"], samples["train"])
    with joined(training.get("processes", 1), device) as group:
        model, spec = _start(block, samples["train"], parent, shape, width, device)
        kept = state_of(state, key, group)
        history: list[dict] = []
        if block.get("structural") is not None:

            def recover(model: nn.Module, spec: dict, training: dict, step: State | None) -> Fitted:
                return _fit(model, samples, {**block, "training": training}, teacher, spec, device, out, step, group)

            model, spec, history = part("structural").prune_in_steps(
                block, model, spec, samples["train"], recover, kept
            )
        fitted = _fit(model, samples, block, teacher, spec, device, out, kept, group)
    if not group.first:
        return
    save_weights(out / "model.safetensors", model, spec, description(opened, samples["train"]))
    history += fitted.history
    write_history(out / "history.csv", [{**row, "epoch": number} for number, row in enumerate(history, 1)])
    facts = {
        "seed": seed,
        "fold": fold,
        "best_epoch": len(history) - len(fitted.history) + fitted.best_epoch,
        "epochs": len(history),
        "unit": ERROR_UNIT[samples["train"].units],
        "validation_error": fitted.validation_error,
        "validation_errors": fitted.validation_errors,
        "subjects": {role: len(set(some.subject)) for role, some in samples.items()},
        "samples": {role: len(some) for role, some in samples.items()},
        "precision": fitted.precision,
        "device": device_name(device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "wall_seconds": round(time.monotonic() - started, 3),
        "training_seconds": round(fitted.seconds, 3),
        "resumes": fitted.resumes,
        "peak_memory_mb": peak_memory_mb(device),
    }
    write_json(out / "run.json", {**facts, **(record or {})})
    if kept is not None:
        kept.remove()


def _check_augmentation(augmentation: dict, train: Samples) -> None:
    views = train.images.shape[1]
    if augmentation.get("flip", 0.0) > 0 and (train.units != "rad" or views > 1):
        raise UserError(
            f"augmentation.flip: {augmentation['flip']}, but the mirror image of {views} views with a target in "
            f"{train.units} is no sample of this set; set it to 0"
        )


def _start(
    block: dict, train: Samples, parent: Path | None, shape: Path | None, width: Path | None, device: torch.device
) -> tuple[nn.Module, dict]:
    """The network that is trained, as it is before the first step, and its spec."""
    torch.manual_seed(derived_seed(block["seed"], "init"))
    if parent is not None:
        model, metadata = load_like(parent, block["model"])
        spec = metadata["model"]
    else:
        spec = block["model"] if shape is None else spec_like(shape, block["model"])
        model = build(spec)
    if block.get("shrink") is not None:
        return part("shrink").shrink(block["shrink"], model, spec, train, width, device)
    return model, spec


def _fit(
    model: nn.Module,
    samples: dict[str, Samples],
    block: dict,
    teacher: Path | None,
    spec: dict,
    device: torch.device,
    out: Path,
    state: State | None,
    group: Group,
) -> Fitted:
    training, kd, rebirth, train = block["training"], block.get("kd"), block.get("rebirth"), samples["train"]
    generators = {
        name: torch.Generator().manual_seed(derived_seed(block["seed"], name))
        for name in ("kd", "rebirth")
        if block.get(name) is not None
    }
    objective, adapters, cycles, on_cycle = supervised(loss_of(training["loss"], train.units)), None, 1, None
    if kd is not None:
        taught_by = load_teacher(teacher, spec, train)
        objective, adapters = part("kd").prepare(
            kd, model, taught_by, training["loss"], train, generators["kd"], device
        )
    if rebirth is not None:
        objective, on_cycle = part("rebirth").prepare(rebirth, objective, generators["rebirth"])
        training, cycles = {**training, "epochs": rebirth["epochs"]}, rebirth["generations"]
    return fit(
        model,
        train,
        samples["validation"],
        objective,
        training,
        block["seed"],
        device,
        label=str(out),
        adapters=adapters,
        cycles=cycles,
        on_cycle=on_cycle,
        generators=generators,
        log_dir=out / "tensorboard" / training.get("tag", "") if training["tensorboard"] else None,
        state=state,
        group=group,
    )


def part(name: str) -> ModuleType:
    """The module that carries out `name` of a method's block."""
    return importlib.import_module(MODULES[name])


def write_history(path: Path, history: list[dict]) -> None:
    """history.csv: one row of HISTORY_COLUMNS per epoch."""
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HISTORY_COLUMNS)
        for row in history:
            writer.writerow([row[name] if name == "epoch" else f"{row[name]:.6g}" for name in HISTORY_COLUMNS])
