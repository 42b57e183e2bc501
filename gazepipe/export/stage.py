"""The stage `export`: a run's weights to a bundle, a folder of files for other runtimes, each checked against torch."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from gazepipe.common.files import atomic, sha256, write_csv, write_json, write_text
from gazepipe.export.card import card
from gazepipe.export.compare import compared
from gazepipe.export.int8 import Attempt, Attempts, calibration_samples, write_models
from gazepipe.export.settings import ExportSettings
from gazepipe.export.trained import Trained, check_predictions, open_trained
from gazepipe.live.bundle import DESCRIPTION, SCHEMA
from gazepipe.profiling.cost import count
from gazepipe.training.device import make_deterministic
from gazepipe.training.inherit import scale_of
from gazepipe.training.samples import Samples
from gazepipe.training.state import State

CARD, TABLE, SUBJECTS = "card.md", "deploy.csv", "subjects.csv"
OUTPUT = {
    "rad": "pitch, yaw in radians in the normalised frame",
    "px": "x, y of the gaze point over target_scale: pixels of the scene image",
}


@dataclass(frozen=True)
class Exported:
    """What came of an export whose model files lie in the folder `work`; the tables are those of `compare.compared`."""

    work: Path
    trained: Trained
    calibration: Samples
    attempts: Attempts
    fine_tuning: list[dict]
    table: pd.DataFrame
    subjects: pd.DataFrame


def export(
    settings: ExportSettings,
    weights: Path,
    store: Path,
    split: Path,
    predictions: Path,
    folder: Path,
    state: Path | None = None,
    key: str = "",
) -> None:
    """Export a trained network as a bundle: a folder of files for other runtimes.

    It holds the model files of `runtime.FILES`, `preprocess.json` with their checksums, `card.md`, and the tables
    `deploy.csv` and `subjects.csv` (see `compare.compared`). `predictions` is the run's prediction file.

    int8 files are made by the first of `int8.RECIPES`, then of `int8.TUNED_RECIPES` after fine-tuning, that is within
    the tolerance on the validation subjects, else by the best. Test subjects are predicted through every file and
    decide nothing. Same arguments on one machine give the same bytes; each file appears complete, the description last.
    Fine-tuning that is killed goes on from the file `state`, as `gazepipe.methods.train.train` does.

    Raises UserError for a store of another image size, patch or unit, predictions of another network, and a network
    that cannot be exported.
    """
    with _exported(settings, weights, store, split, predictions, state, key) as made:
        content = _description(settings, made)
        (folder / DESCRIPTION).unlink(missing_ok=True)  # a bundle without it is none, until the last file is there
        for name in content["files"]:
            with atomic(folder / name) as copy:
                shutil.copyfile(made.work / name, copy)
        write_csv(folder / TABLE, made.table)
        write_csv(folder / SUBJECTS, made.subjects)
        write_text(folder / CARD, card(settings, content))
        write_json(folder / DESCRIPTION, content)


def export_errors(
    settings: ExportSettings,
    weights: Path,
    store: Path,
    split: Path,
    predictions: Path,
    errors: Path,
    state: Path | None = None,
    key: str = "",
) -> None:
    """Measure every test subject's error through each file that a network is exported to.

    `errors` is what is `subjects.csv` in a bundle; arguments and errors as of `export`.
    """
    with _exported(settings, weights, store, split, predictions, state, key) as made:
        write_csv(errors, made.subjects)


@contextmanager
def _exported(
    settings: ExportSettings, weights: Path, store: Path, split: Path, predictions: Path, state: Path | None, key: str
) -> Iterator[Exported]:
    """The model files in a folder that goes when the block ends, and so does the state, if it ends without an error."""
    torch.set_num_threads(settings.threads)
    make_deterministic()
    trained = open_trained(settings, weights, store, split)
    reference = trained.predict(None, "test")
    check_predictions(predictions, settings.about.dataset, trained.samples["test"], reference)
    calibration = calibration_samples(trained.samples["train"], settings.calibration, settings.seed)
    kept = None if state is None else State(state, key)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        attempts, history = write_models(settings, trained, calibration, work, kept)
        recipes = {runtime: best.recipe for runtime, (best, _) in attempts.items()}
        tables = compared(trained, weights, work, recipes, reference)
        yield Exported(work, trained, calibration, attempts, history, *tables)
    if kept is not None:
        kept.remove()


def _description(settings: ExportSettings, made: Exported) -> dict:
    """The content of preprocess.json."""
    return {
        **_seen(made.trained),
        "calibration": {
            "subjects": sorted({str(subject) for subject in made.calibration.subject}),
            "samples": len(made.calibration),
            "seed": settings.seed,
        },
        "quantisation": {runtime: _outcomes(*found) for runtime, found in made.attempts.items()},
        "fine_tuning": made.fine_tuning,
        "error": made.table.to_dict("records"),
        "cost": count(made.trained.model, tuple(made.trained.model.input_shape)),
        "licence": settings.about.licence,
        "files": {path.name: _stamp(path) for path in sorted(made.work.glob("model*"))},
    }


def _seen(trained: Trained) -> dict:
    """What the network sees and what it answers."""
    attrs, metadata = trained.store.attrs, trained.metadata
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


def _outcomes(kept: Attempt, tried: list[Attempt]) -> list[dict]:
    return [
        {"recipe": one.recipe, "validation_error": one.validation_error, "loss": one.loss, "kept": one is kept}
        for one in tried
    ]


def _stamp(path: Path) -> dict[str, str | int]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}
