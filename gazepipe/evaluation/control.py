"""The stage `predict-control`: what a network must beat. Without torch, whose import takes longer than such a job."""

import importlib
from pathlib import Path

from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.predictions import prediction_csv, tested_sets
from gazepipe.evaluation.settings import CONTROLS, ControlSettings


def predict_control(
    settings: ControlSettings, train_store: Path, split: Path, stores: list[Path], predictions: Path
) -> None:
    """Predict every test set without a network: by the mean gaze of the training subjects, or by ridge regression.

    `split` belongs to `train_store`. Same CSV as `predict`. Raises UserError where the stores are of different units,
    or ridge regression meets images of another size.
    """
    sets = tested_sets(settings, stores, split)
    there = {store.path: store for _, store, _ in sets}
    trained = there[train_store] if train_store in there else open_store(train_store)
    units = trained.attrs["units"]
    for path, store in there.items():
        if store.attrs["units"] != units:
            raise UserError(
                f"{path}: is in {store.attrs['units']}, {train_store} in {units}; compare data sets of one task"
            )
    module, _, function = CONTROLS[settings.control].partition(":")
    predicted = getattr(importlib.import_module(module), function)(trained, read_split(split, settings.fold))
    with prediction_csv(predictions, units) as write:
        for name, store, rows in sets:
            write(name, store, rows, predicted(store, rows))
