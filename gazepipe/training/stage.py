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

from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.io import atomic, write_json
from gazepipe.models import build
from gazepipe.models.weights import load_weights, read_metadata, save_weights
from gazepipe.training.data import Samples, check_images, samples_of, size_text
from gazepipe.training.device import device_name, make_deterministic, peak_memory_mb, resolve_device
from gazepipe.training.fit import HISTORY_COLUMNS, Fitted, derived_seed, fit
from gazepipe.training.losses import supervised

# Loaded by name, and only by the methods that use them: source fingerprints follow import statements, so a
# change in re-birth leaves the runs of a plain method alone. The workflow adds these modules to the
# fingerprint of their methods.
PARTS = {"kd": "gazepipe.training.distillation", "rebirth": "gazepipe.compression.rebirth"}


def train(
    block: dict,
    store: Path,
    split: Path,
    out: Path,
    parent: Path | None,
    teacher: Path | None,
    record: dict | None = None,
) -> None:
    """Train one network and write `model.safetensors`, `history.csv` and `run.json` into `out`, each
    atomically.

    `block` is {"model": {"arch", "width", "input": [V, H, W]}, "training": see `gazepipe.training.fit.fit`,
    plus `loss` and `tensorboard`, "kd": see `gazepipe.training.distillation.prepare` or None, "rebirth": see
    `gazepipe.compression.rebirth.prepare` or None, "device": auto, cpu, cuda or mps, "fold", "seed"}.
    `parent` is a weights file to start from, `teacher` one to learn from. Subjects of the fold's roles train
    and validation are used; those of test are not looked at. `record` goes into run.json. The weights are a
    pure function of the arguments on one machine.

    Raises UserError where the parent is of another model, the teacher or the store of another input size,
    `kd` and `teacher` do not come together, a split subject is missing, or the loss is not finite.
    """
    started = time.monotonic()
    device, seed, fold = resolve_device(block["device"]), block["seed"], block["fold"]
    make_deterministic()
    spec, training, kd, rebirth = block["model"], block["training"], block.get("kd"), block.get("rebirth")
    if (kd is None) != (teacher is None):
        raise UserError(f"{out}: kd is {kd} and the teacher {teacher}; give both or neither")
    opened = open_store(store)
    check_images(opened, spec["input"])
    roles = read_split(split, fold)
    samples = {role: samples_of(opened, roles[role]) for role in ("train", "validation")}
    torch.manual_seed(derived_seed(seed, "init"))
    model = build(spec) if parent is None else load_weights(parent, expect_spec=spec)[0]
    fitted = _fit(model, samples, training, kd, rebirth, teacher, spec, seed, device, out)
    extra = {name: opened.attrs[name] for name in ("mean", "std", "patch", "dataset")}
    save_weights(out / "model.safetensors", model, spec, extra)
    write_history(out / "history.csv", fitted.history)
    facts = {
        "seed": seed,
        "fold": fold,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "validation_error_deg": fitted.validation_error_deg,
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
        "peak_memory_mb": peak_memory_mb(device),
    }
    write_json(out / "run.json", {**facts, **(record or {})})


def _fit(
    model: nn.Module,
    samples: dict[str, Samples],
    training: dict,
    kd: dict | None,
    rebirth: dict | None,
    teacher: Path | None,
    spec: dict,
    seed: int,
    device: torch.device,
    out: Path,
) -> Fitted:
    objective, adapters, cycles, on_cycle = supervised(training["loss"]), None, 1, None
    if kd is not None:
        taught_by = load_teacher(teacher, spec)
        objective, adapters = part("kd").prepare(
            kd, model, taught_by, training["loss"], samples["train"], derived_seed(seed, "kd"), device
        )
    if rebirth is not None:
        objective, on_cycle = part("rebirth").prepare(rebirth, objective, derived_seed(seed, "rebirth"))
        training, cycles = {**training, "epochs": rebirth["epochs"]}, rebirth["generations"]
    return fit(
        model,
        samples["train"],
        samples["validation"],
        objective,
        training,
        seed,
        device,
        label=str(out),
        adapters=adapters,
        cycles=cycles,
        on_cycle=on_cycle,
        log_dir=out / "tensorboard" if training["tensorboard"] else None,
    )


def part(name: str) -> ModuleType:
    """The module that carries out `name` of a method's block."""
    return importlib.import_module(PARTS[name])


def load_teacher(teacher: Path, student_spec: dict) -> nn.Module:
    """The teacher's network; any architecture whose input is the student's. Raises UserError for another
    input.
    """
    spec = read_metadata(teacher)["model"]
    theirs, ours = size_text(spec["input"]), size_text(student_spec["input"])
    if theirs != ours:
        raise UserError(
            f"{teacher}: is a teacher for images of {theirs}, the student takes {ours}; "
            "train the teacher on the same patch"
        )
    # The configuration has already named the student's architecture: a user's own network may be its own
    # teacher.
    return load_weights(teacher, expect_spec=spec if spec["arch"] == student_spec["arch"] else None)[0]


def write_history(path: Path, history: list[dict]) -> None:
    """history.csv: one row of HISTORY_COLUMNS per epoch."""
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HISTORY_COLUMNS)
        for row in history:
            writer.writerow([row[name] if name == "epoch" else f"{row[name]:.6g}" for name in HISTORY_COLUMNS])
