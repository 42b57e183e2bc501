"""Which int8 file a bundle holds: what is tried, in which order, and what is kept.

Which layers stay in fp32, and whether the network is fine-tuned, is decided on the validation subjects.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from gazepipe.export.fine_tuning import fine_tune
from gazepipe.export.onnx import to_onnx, to_openvino
from gazepipe.export.quantise import (
    ENDS_KEPT,
    EVERYTHING,
    HEAD_KEPT,
    LAYERS_ONLY,
    Recipe,
    quantise_onnx,
    quantise_openvino,
)
from gazepipe.export.settings import ExportSettings
from gazepipe.export.trained import Trained
from gazepipe.live.runtime import FILES
from gazepipe.training.fit import derived_seed
from gazepipe.training.samples import Samples
from gazepipe.training.state import State

RECIPES = (EVERYTHING, LAYERS_ONLY, HEAD_KEPT, ENDS_KEPT)
"""Fastest first, which is also the order of rising accuracy, as a rule."""
TUNED_RECIPES = (LAYERS_ONLY, ENDS_KEPT)
"""What is tried again with a fine-tuned network."""
TUNED = "fine-tuned, "
QUANTISERS = {"onnxruntime": quantise_onnx, "openvino": quantise_openvino}


def calibration_samples(train: Samples, count: int, seed: int) -> Samples:
    """`count` of the training samples (all, where there are fewer), drawn with `seed`, in the order of the store."""
    rng = np.random.default_rng(derived_seed(seed, "calibration"))
    picks = np.sort(rng.permutation(len(train))[:count])
    return replace(train, rows=train.rows[picks], target=train.target[picks], subject=train.subject[picks])


@dataclass(frozen=True)
class Attempt:
    """One way to int8: its file, what it is called, and its relative loss of validation error (0.01: 1 % worse)."""

    path: Path
    recipe: str
    validation_error: float
    loss: float


Attempts = dict[str, tuple[Attempt, list[Attempt]]]
"""By runtime: the int8 file that is kept, and all that were tried."""


def quantise_within(
    tolerance: float, fp32_error: float, recipes: Iterable[tuple[str, Callable[[], Path]]], judge: Callable
) -> tuple[Attempt, list[Attempt]]:
    """Carry out the recipes, (name, function that writes a file), until one loses at most `tolerance`.

    `judge` tells a file's validation error. Returns the one that is good enough, or, where none is, the one that loses
    least, and all that were tried.
    """
    tried: list[Attempt] = []
    for recipe, write in recipes:
        path = write()
        error = judge(path)
        tried.append(Attempt(path, recipe, error, error / max(fp32_error, 1e-9) - 1))
        if tried[-1].loss <= tolerance:
            break
    return min(tried, key=lambda attempt: attempt.loss), tried


def write_models(
    settings: ExportSettings, trained: Trained, calibration: Samples, work: Path, state: State | None = None
) -> tuple[Attempts, list[dict]]:
    """Write all model files into the folder `work`; returns what was tried for int8, and the history of fine-tuning."""
    plain, ir = (work / FILES[runtime][0] for runtime in QUANTISERS)
    to_onnx(trained.model, plain)
    to_openvino(plain, ir)
    history: list[dict] = []

    @cache
    def tuned() -> Path:
        roles = trained.samples["train"], trained.samples["validation"]
        model, epochs = fine_tune(settings, trained.model, calibration, *roles, state)
        history.extend(epochs)
        return to_onnx(model, work / "tuned.onnx")

    networks = {"": lambda: plain, **({TUNED: tuned} if settings.fine_tuning else {})}
    fp32_error = trained.validation_error(None)
    found = {}
    for runtime in QUANTISERS:
        recipes = _recipes(runtime, networks, calibration, work)
        found[runtime] = quantise_within(settings.tolerance, fp32_error, recipes, trained.validation_error)
        _take(found[runtime][0].path, work / FILES[runtime][1])
    return found, history


def _recipes(
    runtime: str, networks: dict[str, Callable[[], Path]], calibration: Samples, work: Path
) -> Iterator[tuple[str, Callable[[], Path]]]:
    """(name, function that writes a file), in the order in which they are tried; `networks` gives the ONNX file of each
    network by what the recipes' names begin with."""
    folder, suffix = work / runtime, Path(FILES[runtime][1]).suffix
    folder.mkdir()

    def write(network: Callable[[], Path], path: Path, recipe: Recipe) -> Path:
        return QUANTISERS[runtime](network(), calibration, path, recipe)

    for prefix, network in networks.items():
        for number, recipe in enumerate(TUNED_RECIPES if prefix == TUNED else RECIPES):
            path = folder / f"{'tuned' if prefix else 'plain'}-{number}{suffix}"
            yield prefix + recipe.name, partial(write, network, path, recipe)


def _take(chosen: Path, name: Path) -> None:
    """Copy a model file, and the weights beside an IR, under the name that it has in a bundle."""
    shutil.copyfile(chosen, name)
    if chosen.suffix == ".xml":
        shutil.copyfile(chosen.with_suffix(".bin"), name.with_suffix(".bin"))
