"""The stage `export`: a run's weights to a bundle, a folder of files for other runtimes, each checked against torch."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from gazepipe.common.files import atomic, sha256, write_json, write_text
from gazepipe.common.units import ERROR_UNIT, errors
from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.metrics import PREDICTED, read_predictions
from gazepipe.evaluation.statistics import bootstrap_mean, paired_comparison
from gazepipe.export.card import card
from gazepipe.export.onnx import (
    check,
    error_of,
    largest_difference,
    open_engine,
    predictions,
    subject_errors,
    to_onnx,
    to_openvino,
    torch_engine,
)
from gazepipe.export.quantise import (
    RECIPES,
    TUNED,
    TUNED_RECIPES,
    Attempt,
    Recipe,
    calibration_samples,
    fine_tune,
    quantise_onnx,
    quantise_openvino,
    quantise_within,
)
from gazepipe.live.bundle import DESCRIPTION, SCHEMA
from gazepipe.live.runtime import FILES
from gazepipe.models.weights import load_weights
from gazepipe.profiling.cost import count
from gazepipe.training.device import make_deterministic, resolve_device
from gazepipe.training.inherit import check_units, load_like, scale_of
from gazepipe.training.samples import Samples, check_images, samples_of
from gazepipe.training.state import State

EAGER = "eager"
PRECISIONS = ("fp32", "int8")
QUANTISERS = {"onnxruntime": quantise_onnx, "openvino": quantise_openvino}
CARD, TABLE, SUBJECTS = "card.md", "deploy.csv", "subjects.csv"
OUTPUT = {
    "rad": "pitch, yaw in radians in the normalised frame",
    "px": "x, y of the gaze point over target_scale: pixels of the scene image",
}
SAME_PREDICTION = {"rad": 0.1, "px": 1.0}
"""By units: degrees or pixels between a prediction file and torch here, which leaves room for other devices."""

Attempts = dict[str, tuple[Attempt, list[Attempt]]]
"""By runtime: the int8 file that is kept, and all that were tried."""


@dataclass(frozen=True)
class Trained:
    """A trained network, and the samples of its fold by role, normalised as it sees them."""

    model: nn.Module
    metadata: dict
    samples: dict[str, Samples]
    threads: int

    def predict(self, path: Path | None, role: str) -> np.ndarray:
        """Predictions [n, 2] for a role through an exported file, or (None) by torch."""
        engine = torch_engine(self.model) if path is None else open_engine(path, self.threads)
        return predictions(engine, self.samples[role], f"{path.name if path else EAGER}, {role} subjects")

    def validation_error(self, path: Path | None) -> float:
        return error_of(self.predict(path, "validation"), self.samples["validation"])


def export(
    block: dict,
    weights: Path,
    store: Path,
    split: Path,
    predicted: Path,
    out: Path,
    *,
    state: Path | None = None,
    key: str = "",
) -> None:
    """Write the bundle of a run into the folder `out`: the model files of `runtime.FILES`, `preprocess.json` with their
    checksums, `card.md`, and the tables `deploy.csv` and `subjects.csv` (see `measured`).

    `block` is {"fold", "seed", "threads", "device", "calibration": number of training samples, "tolerance": relative
    loss of validation error that int8 may cost, "fine_tuning": {"epochs", "learning_rate"} or None, "training": the
    run's, "statistics": {"resamples", "seed"}, "about": {"dataset", "model", "method", "drawn": whether the data are,
    "licence": of the data}} and, for a user's own network, "model": its spec. `predicted` is the run's prediction file
    of the fold's test subjects.

    int8 files are made by the first of `RECIPES`, then of `TUNED_RECIPES` after fine-tuning, that is within the
    tolerance on the validation subjects, else by the best. Test subjects are predicted through every file and decide
    nothing. Same arguments on one machine give the same bytes; each file appears complete, the description last.
    Fine-tuning that is killed goes on from the file `state`, as `gazepipe.methods.train.train` does.

    Raises UserError for a store of another image size, patch or unit, predictions of another network, and a network
    that cannot be exported.
    """
    torch.set_num_threads(block["threads"])
    make_deterministic()
    opened = open_store(store)
    trained = open_trained(block, weights, opened, split)
    reference = trained.predict(None, "test")
    _check_predictions(predicted, trained.samples["test"], reference)
    calibration = calibration_samples(trained.samples["train"], block["calibration"], block["seed"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        kept = None if state is None else State(state, key)
        attempts, history = write_models(block, trained, calibration, work, kept)
        table, subjects = measured(block, trained, weights, work, attempts, reference)
        content = {
            **_description(opened, trained),
            "calibration": {
                "subjects": sorted({str(subject) for subject in calibration.subject}),
                "samples": len(calibration),
                "seed": block["seed"],
            },
            "quantisation": {runtime: _records(*found) for runtime, found in attempts.items()},
            "fine_tuning": history,
            "error": table.to_dict("records"),
            "cost": count(trained.model, tuple(trained.model.input_shape)),
            "licence": block["about"]["licence"],
            "files": {path.name: _stamp(path) for path in sorted(work.glob("model*"))},
        }
        (out / DESCRIPTION).unlink(missing_ok=True)  # a bundle without it is none, until the last file is there
        for name in content["files"]:
            with atomic(out / name) as copy:
                shutil.copyfile(work / name, copy)
    for name, frame in ((TABLE, table), (SUBJECTS, subjects)):
        write_text(out / name, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_text(out / CARD, card(block, content))
    write_json(out / DESCRIPTION, content)
    if kept is not None:
        kept.remove()


def export_errors(
    block: dict, weights: Path, store: Path, split: Path, predicted: Path, out: Path, **resumed: Path | str | None
) -> None:
    """Write only `subjects.csv` of the bundle of a run, as `out`; arguments and errors as `export`."""
    with tempfile.TemporaryDirectory() as folder:
        export(block, weights, store, split, predicted, Path(folder), **resumed)
        write_text(out, (Path(folder) / SUBJECTS).read_text())


def open_trained(block: dict, weights: Path, store: Store, split: Path) -> Trained:
    """The network of a weights file in eval mode and its fold's samples; UserError where they do not fit together."""
    model, metadata = load_like(weights, block["model"]) if block.get("model") else load_weights(weights)
    check_images(store, metadata["model"]["input"], metadata["patch"])
    check_units(weights, metadata, store.attrs["units"])
    seen = {"mean": metadata["mean"], "std": metadata["std"], "scale": scale_of(metadata)}
    roles = read_split(split, block["fold"])
    samples = {role: replace(samples_of(store, subjects), **seen) for role, subjects in roles.items()}
    return Trained(model.eval(), metadata, samples, block["threads"])


def write_models(
    block: dict, trained: Trained, calibration: Samples, work: Path, state: State | None = None
) -> tuple[Attempts, list[dict]]:
    """Write all model files into the folder `work`; returns what was tried for int8, and the history of fine-tuning."""
    onnx_file, ir_file = (work / FILES[runtime][0] for runtime in QUANTISERS)
    to_onnx(trained.model, onnx_file)
    to_openvino(onnx_file, ir_file)

    history: list[dict] = []

    @cache
    def tuned() -> Path:
        train, validation = trained.samples["train"], trained.samples["validation"]
        training = {**block["training"], **block["fine_tuning"], "threads": block["threads"], "precision": "fp32"}
        training |= {"ema": 0.0, "early_stopping": None}
        device = resolve_device(block["device"])
        seed = block["seed"]
        model, epochs = fine_tune(trained.model, calibration, train, validation, training, seed, device, state)
        history.extend(epochs)
        return to_onnx(model, work / "tuned.onnx")

    fp32_error = trained.validation_error(None)
    found = {}
    for runtime, quantise in QUANTISERS.items():
        folder = work / runtime
        folder.mkdir()
        recipes = _recipes(quantise, calibration, onnx_file, tuned if block["fine_tuning"] else None, folder)
        found[runtime] = quantise_within(block["tolerance"], fp32_error, recipes, trained.validation_error)
        _take(found[runtime][0].path, work / FILES[runtime][1])
    return found, history


def _recipes(
    quantise: Callable, calibration: Samples, plain: Path, tuned: Callable[[], Path] | None, folder: Path
) -> Iterator[tuple[str, Callable[[], Path]]]:
    """(name, function that writes a file), in the order in which they are tried; `tuned` gives the other network."""

    def path(recipe: Recipe, prefix: str) -> Path:
        suffix = Path(FILES[folder.name][1]).suffix
        return folder / f"{prefix}-{RECIPES.index(recipe)}{suffix}"

    for recipe in RECIPES:
        yield recipe.name, partial(quantise, plain, calibration, path(recipe, "plain"), recipe)
    for recipe in TUNED_RECIPES if tuned else ():
        yield TUNED + recipe.name, lambda r=recipe: quantise(tuned(), calibration, path(r, "tuned"), r)


def _take(chosen: Path, name: Path) -> None:
    """Copy a model file, and the weights beside an IR, under the name that it has in a bundle."""
    shutil.copyfile(chosen, name)
    if chosen.suffix == ".xml":
        shutil.copyfile(chosen.with_suffix(".bin"), name.with_suffix(".bin"))


def measured(
    block: dict, trained: Trained, weights: Path, work: Path, attempts: Attempts, reference: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each file predicts for the fold's test subjects, beside torch's predictions `reference`.

    One row per runtime and precision, eager torch first: runtime, precision, recipe (of int8), units (of errors),
    error (mean over subjects), low, high (95 % interval over subjects), n_subjects, change_percent against eager, with
    change_low and change_high, max_difference to eager over the samples, bytes. And the error of every subject:
    runtime, precision, subject, error. Raises UserError where an fp32 file does not predict what torch does.
    """
    test, rows, subjects = trained.samples["test"], [], []
    baseline = pd.Series(subject_errors(reference, test))
    for runtime, precision, path in [(EAGER, "fp32", None), *_files(work)]:
        predicted = reference if path is None else trained.predict(path, "test")
        difference = largest_difference(predicted, reference, test.units)
        if precision == "fp32" and path is not None:
            check(path.name, difference, test.units)
        found = pd.Series(subject_errors(predicted, test))
        names = {"runtime": runtime, "precision": precision}
        rows.append(
            {
                **names,
                "recipe": attempts[runtime][0].recipe if precision == "int8" else "",
                "units": ERROR_UNIT[test.units],
                **_statistics(found, baseline, block["statistics"]),
                "max_difference": difference,
                "bytes": _size(weights if path is None else path),
            }
        )
        subjects += [{**names, "subject": subject, "error": error} for subject, error in found.items()]
    return pd.DataFrame(rows), pd.DataFrame(subjects)


def _statistics(found: pd.Series, baseline: pd.Series, statistics: dict) -> dict[str, float | int | None]:
    low, high = bootstrap_mean(found.to_numpy(), **statistics)
    change = paired_comparison(found, baseline, **statistics)
    percent = 100 / max(baseline.mean(), 1e-9)
    return {
        "error": float(found.mean()),
        "low": _known(low),
        "high": _known(high),
        "n_subjects": len(found),
        "change_percent": percent * change["difference"],
        "change_low": _known(percent * change["low"]),
        "change_high": _known(percent * change["high"]),
    }


def _known(value: float) -> float | None:
    """None for the NaN of an interval over one subject, which JSON does not have."""
    return None if np.isnan(value) else value


def _files(work: Path) -> list[tuple[str, str, Path]]:
    """(runtime, precision, file) of a folder with all model files."""
    return [
        (runtime, precision, work / name)
        for runtime in QUANTISERS
        for precision, name in zip(PRECISIONS, FILES[runtime], strict=True)
    ]


def _size(path: Path) -> int:
    """Bytes of a model file, with the weights beside an IR."""
    parts = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return sum(part.stat().st_size for part in parts)


def _description(store: Store, trained: Trained) -> dict:
    attrs, metadata = store.attrs, trained.metadata
    return {
        "schema": SCHEMA,
        "task": attrs["task"],
        "units": attrs["units"],
        "target_scale": list(scale_of(metadata)),
        "input": metadata["model"]["input"],
        "patch": metadata["patch"],
        "mean": metadata["mean"],
        "std": metadata["std"],
        "geometry": attrs["geometry"],
        "grayscale": True,
        "output": OUTPUT[attrs["units"]],
    }


def _records(kept: Attempt, tried: list[Attempt]) -> list[dict]:
    return [
        {"recipe": one.recipe, "validation_error": one.validation_error, "loss": one.loss, "kept": one is kept}
        for one in tried
    ]


def _stamp(path: Path) -> dict[str, str | int]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def _check_predictions(path: Path, test: Samples, reference: np.ndarray) -> None:
    """Refuse, with a UserError, a prediction file that is not about these samples, or not by this network."""
    frame = read_predictions(path)
    if [str(name) for name in frame["subject"]] != [str(name) for name in test.subject]:
        raise UserError(
            f"{path}: is not about the test subjects of the fold; name the run's own predictions of its data"
        )
    columns = PREDICTED[test.units]
    if not set(columns) <= set(frame.columns):
        raise UserError(f"{path}: has no column {', '.join(columns)}; name predictions in {test.units}")
    furthest = float(errors(frame[columns].to_numpy(np.float64), reference, test.units).max())
    if furthest > SAME_PREDICTION[test.units]:
        raise UserError(
            f"{path}: is up to {furthest:.3g} {ERROR_UNIT[test.units]} beside what these weights predict; "
            "delete it and predict again"
        )
