"""The stage `predict-control`: what a network must beat. Without torch, whose import takes longer than such a job."""

import importlib
from pathlib import Path

from gazepipe.datasets.splits import read_split, rows_of
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.predictions import prediction_csv, tested_subjects
from gazepipe.evaluation.settings import CONTROLS, ControlSettings


def predict_control(settings: ControlSettings, train_store: Path, split: Path, store: Path, predictions: Path) -> None:
    """Predict every sample without a network: by the mean gaze of the training subjects, or by ridge regression.

    `split` belongs to `train_store`. Same CSV as `predict`. Raises UserError where the stores are of different units,
    or ridge regression meets images of another size.
    """
    trained, opened = open_store(train_store), open_store(store)
    if trained.attrs["units"] != opened.attrs["units"]:
        raise UserError(
            f"{store}: is in {opened.attrs['units']}, {train_store} in {trained.attrs['units']}; "
            "compare data sets of one task"
        )
    module, _, function = CONTROLS[settings.control].partition(":")
    predicted = getattr(importlib.import_module(module), function)(trained, read_split(split, settings.fold))
    rows = rows_of(opened, tested_subjects(split, settings.fold if settings.own else None))
    with prediction_csv(predictions, opened.attrs["units"]) as write:
        write(opened, rows, predicted(opened, rows))
