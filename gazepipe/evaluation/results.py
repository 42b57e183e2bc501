"""The results that tables are made from: where each file lies, and the errors in the files of predictions."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gazepipe.common.files import read_json
from gazepipe.common.markdown import row_name
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.metrics import (
    HEAD,
    PREDICTED,
    TRUE,
    per_subject_errors,
    read_tests,
    sample_errors,
    tests_text,
    units_of,
)
from gazepipe.evaluation.settings import CONTROLS, NO_METHOD

NAMES = ["train", "model", "method", "fold", "seed", "test"]
"""What names predictions: the data set trained on comes first, the one tested on last."""


def is_control(settings: Any, model: str, method: str) -> bool:
    """Whether a row of a table is there to be beaten: predicted without a network, or by one that cannot have learnt.

    `settings` holds the methods.
    """
    return model in CONTROLS or settings.methods[method].placebo


class Results:
    """The results below `folder` of the networks that `settings` (those of the stage `tables`) names.

    Predictions are read when they are first asked for, and once.
    """

    def __init__(self, settings: Any, folder: Path):
        self.settings = settings
        self.folder = folder

    def file(self, stage: str, output: str, **wildcards: object) -> Path:
        """Where a stage's result lies."""
        return self.settings.file(self.folder, stage, output, **wildcards)

    def link(self, stage: str, output: str, **wildcards: object) -> str:
        """The same, as the page links to it."""
        return self.settings.file(Path(), stage, output, **wildcards).as_posix()

    def figure(self, name: str) -> str:
        """How the page links to a figure of the tables."""
        return self.link("tables", f"{name}.svg")

    def row_name(self, model: str, method: str) -> str:
        """How a table's row is called; controls are in italics."""
        return row_name(model, method, is_control(self.settings, model, method))

    def profile(self, model: str, method: str) -> dict:
        """Cost and speed of a network: the profile of the method that made its shape."""
        return read_json(self.file("profile", "costs", model=model, method=self.settings.methods[method].profiled))

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Error (degrees or pixels) of every subject in all predictions: NAMES, subject, error."""
        parts = [per_subject_errors(rows).rename("error").reset_index().assign(**names) for names, rows in self.frames]
        return pd.concat(parts, ignore_index=True)[[*NAMES, "subject", "error"]].astype({"subject": str})

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Error of every sample of the data sets that networks were trained on: NAMES, subject, error.

        For tables that need more than means over subjects; of many large data sets this fills the memory.
        """
        parts = [
            rows[["subject", "error"]].assign(**names) for names, rows in self.frames if names["train"] == names["test"]
        ]
        return pd.concat(parts, ignore_index=True)[[*NAMES, "subject", "error"]].astype({"subject": str})

    @cached_property
    def frames(self) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """The predictions of every network for every test set: their NAMES, and of each row subject, gaze, predicted
        gaze, error (degrees or pixels), and sample and HEAD where the file has them. Those without a network come
        first.
        """
        return [
            ({**names, "test": test}, rows) for names in self.predicted() for test, rows in self._tests(names).items()
        ]

    @cached_property
    def history(self) -> pd.DataFrame:
        """The epochs of every run that has some: train, model, method, fold, seed, epoch (from 1), validation_error.

        Raises UserError for a file that is missing or damaged.
        """
        parts = [_history(self.file("train", "history", **run)).assign(**_named(run)) for run in self.runs()]
        trained = [part for part in parts if len(part)]
        columns = [*NAMES[:-1], "epoch", "validation_error"]
        return pd.concat(trained, ignore_index=True)[columns] if trained else pd.DataFrame(columns=columns)

    def runs(self) -> Iterator[dict[str, Any]]:
        """Every training, by the wildcards of its files."""
        settings = self.settings
        for dataset, summary in settings.datasets.items():
            for network in settings.networks:
                for fold in summary.folds:
                    for seed in settings.seeds:
                        names = {"dataset": dataset, "model": network.model, "method": network.method}
                        yield {**names, "fold": fold, "seed": seed}

    def own_predictions(self, dataset: str, model: str, method: str, seed: int) -> pd.DataFrame:
        """The predictions of a network's folds, one seed, of the test subjects of the data set it was trained on."""
        names = {"train": dataset, "model": model, "method": method, "seed": seed, "test": dataset}
        return pd.concat([rows for found, rows in self.frames if names.items() <= found.items()])

    def store(self, dataset: str) -> Store:
        """The images and targets of a data set."""
        return open_store(self.file("prepare", "store", dataset=dataset))

    def predicted(self) -> Iterator[dict[str, Any]]:
        """The NAMES, but for the test set, of every file of predictions; those without a network come first."""
        settings = self.settings
        controls = [(name, NO_METHOD, [0]) for name in CONTROLS]
        networks = [(network.model, network.method, settings.seeds) for network in settings.networks]
        for train, summary in settings.datasets.items():
            for model, method, seeds in [*controls, *networks]:
                for fold in summary.folds:
                    for seed in seeds:
                        yield dict(zip(NAMES, (train, model, method, fold, seed), strict=False))

    def _tests(self, names: dict[str, Any]) -> dict[str, pd.DataFrame]:
        """The rows of a file of predictions by test set, as `_compact` has them."""
        stage = "predict_control" if names["model"] in CONTROLS else "predict"
        path = self.file(stage, "predictions", dataset=names["train"], **names)
        found, expected = read_tests(path), self.settings.datasets[names["train"]].tests
        if list(found) != expected:
            raise UserError(f"{path}: has {tests_text(found)}, not {', '.join(expected)}; delete it, run again")
        return {test: _compact(rows) for test, rows in found.items()}


def _named(run: dict[str, Any]) -> dict[str, Any]:
    """A run's wildcards by NAMES."""
    return {"train" if name == "dataset" else name: value for name, value in run.items()}


def _history(path: Path) -> pd.DataFrame:
    """epoch and validation_error of a history.csv."""
    try:
        history = pd.read_csv(path)[["epoch", "validation_error"]].astype({"validation_error": float})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); delete it, run again") from None
    if not np.isfinite(history.to_numpy(np.float64)).all() or history["epoch"].duplicated().any():
        raise UserError(f"{path}: every epoch has one row with a finite validation error; delete it, run again")
    return history


def _compact(frame: pd.DataFrame) -> pd.DataFrame:
    """What tables use of predictions as they are read, and the error of each row."""
    units = units_of(frame)
    used = ["sample", "subject", *TRUE[units], *PREDICTED[units], *(HEAD if set(HEAD) <= set(frame.columns) else ())]
    kept = frame[[column for column in used if column in frame.columns]]
    return kept.assign(error=sample_errors(frame)).reset_index(drop=True)
