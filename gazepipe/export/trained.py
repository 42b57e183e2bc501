"""A trained network with its fold's samples, as the export sees it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from gazepipe.common.units import ERROR_UNIT, errors
from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.metrics import PREDICTED, read_tests, tests_text
from gazepipe.export.onnx import error_of, open_engine, predict, torch_engine
from gazepipe.export.settings import ExportSettings
from gazepipe.training.inherit import check_units, load_like, scale_of
from gazepipe.training.samples import Samples, check_images, samples_of

EAGER = "eager"
SAME_PREDICTION = {"rad": 0.1, "px": 1.0}
"""By units: degrees or pixels between a prediction file and torch here, which leaves room for other devices."""


@dataclass(frozen=True)
class Trained:
    """A trained network in eval mode, and the samples of its fold by role, normalised as it sees them."""

    model: nn.Module
    metadata: dict
    store: Store
    samples: dict[str, Samples]
    threads: int

    def predict(self, path: Path | None, role: str) -> np.ndarray:
        """Predictions [n, 2] for a role through an exported file, or (None) by torch."""
        engine = torch_engine(self.model) if path is None else open_engine(path, self.threads)
        return predict(engine, self.samples[role], f"{path.name if path else EAGER}, {role} subjects")

    def validation_error(self, path: Path | None) -> float:
        """Mean error over the validation subjects, degrees or pixels, through a file or (None) by torch."""
        return error_of(self.predict(path, "validation"), self.samples["validation"])


def open_trained(settings: ExportSettings, weights: Path, store: Path, split: Path) -> Trained:
    """The network of a weights file and its fold's samples; UserError where they do not fit together."""
    opened = open_store(store)
    model, metadata = load_like(weights, settings.model)
    check_images(opened, metadata["model"]["input"], metadata["patch"])
    check_units(weights, metadata, opened.attrs["units"])
    seen = {"mean": metadata["mean"], "std": metadata["std"], "scale": scale_of(metadata)}
    roles = read_split(split, settings.fold)
    samples = {role: replace(samples_of(opened, subjects), **seen) for role, subjects in roles.items()}
    return Trained(model.eval(), metadata, opened, samples, settings.threads)


def check_predictions(path: Path, dataset: str, test: Samples, reference: np.ndarray) -> None:
    """Refuse, with a UserError, a prediction file that is not about these samples of `dataset`, or not by this network,
    which predicts `reference` [n, 2]."""
    tests = read_tests(path)
    frame = tests.get(dataset, tests.get(""))
    if frame is None:
        raise UserError(f"{path}: has {tests_text(tests)}, not {dataset}; name the run's own predictions")
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
            f"{path}: differs by up to {furthest:.3g} {ERROR_UNIT[test.units]} from what these weights predict; "
            "delete it and predict again"
        )
