"""A small run to export: its settings, and its files as predicted, by the names of the stage's arguments."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_network import lively_network
from toy_store import HEIGHT, PATCH, WIDTH, write_toy_split, write_toy_store

from gazepipe.evaluation.predict import predict
from gazepipe.evaluation.settings import PredictSettings
from gazepipe.export.settings import ExportSettings
from gazepipe.models.weights import save_weights

SPEC = {"arch": "toy_network:toy_network", "width": 1.0, "input": [1, HEIGHT, WIDTH]}
NORMALISATION = {"mean": 0.4, "std": 0.3, "patch": PATCH}
NO_AUGMENTATION = dict.fromkeys(
    ("crop", "flip", "blur", "sharpness", "mixup", "pairs", "shift", "brightness", "contrast", "noise"), 0.0
)

Files = dict[str, Path]
"""weights, store, split and predictions."""


@pytest.fixture(scope="session")
def settings() -> ExportSettings:
    """int8 may cost what it likes, and nothing is fine-tuned."""
    return ExportSettings.model_validate(
        {
            "model": SPEC,
            "training": {"batch_size": 32, "warmup_epochs": 0.0},
            "augmentation": NO_AUGMENTATION,
            "fold": 0,
            "seed": 0,
            "device": "cpu",
            "threads": 1,
            "calibration": 48,
            "tolerance": 10.0,
            "fine_tuning": None,
            "about": {
                "dataset": "toy",
                "model": "resnet18",
                "method": "base",
                "drawn": True,
                "licence": "made up, free",
            },
        }
    )


@pytest.fixture(scope="session")
def predicted(settings) -> Callable[..., Files]:
    """(folder with model.safetensors, toy.h5 and toy.csv, spec) -> its files, once two test sets are predicted:
    everybody, and its test subjects.
    """

    def of(folder: Path, spec: dict = SPEC) -> Files:
        files = {"weights": "model.safetensors", "store": "toy.h5", "split": "toy.csv", "predictions": "predicted.csv"}
        paths = {name: folder / file for name, file in files.items()}
        tested = {"dataset": settings.about.dataset, "fold": settings.fold, "tests": ["all", settings.about.dataset]}
        chosen = PredictSettings(model=spec, **tested, device="cpu", threads=1)
        weights, store, split, predictions = paths.values()
        predict(chosen, weights, [store, store], split, predictions)
        return paths

    return of


@pytest.fixture(scope="session")
def make_run(predicted) -> Callable[[Path, int], Files]:
    """(folder, samples of each subject) -> the files of a run of the toy network in it."""

    def make(folder: Path, per_subject: int) -> Files:
        write_toy_store(folder / "toy.h5", per_subject=per_subject)
        write_toy_split(folder / "toy.csv")
        save_weights(folder / "model.safetensors", lively_network(SPEC), SPEC, NORMALISATION)
        return predicted(folder)

    return make


@pytest.fixture(scope="session")
def run(make_run, tmp_path_factory) -> Files:
    """The files of a run."""
    return make_run(tmp_path_factory.mktemp("run"), 20)
