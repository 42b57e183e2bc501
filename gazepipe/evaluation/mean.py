"""The stage `predict-mean`: the baseline. Without torch, whose import takes longer than such a job."""

from pathlib import Path

import numpy as np

from gazepipe.datasets.splits import read_split, rows_of
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.predictions import prediction_csv, tested_subjects
from gazepipe.evaluation.settings import MeanSettings
from gazepipe.geometry import angles_to_vector, vector_to_angles


def predict_mean(settings: MeanSettings, train_store: Path, split: Path, store: Path, predictions: Path) -> None:
    """Predict the mean gaze of the training subjects for every sample: the baseline for all networks.

    `split` belongs to `train_store`. The prediction is `mean_gaze` for all samples of `store`. Same CSV as `predict`;
    the image size does not matter.
    """
    trained, opened = open_store(train_store), open_store(store)
    if trained.attrs["units"] != opened.attrs["units"]:
        raise UserError(
            f"{store}: is in {opened.attrs['units']}, {train_store} in {trained.attrs['units']}; "
            "compare data sets of one task"
        )
    mean = mean_gaze(trained, read_split(split, settings.fold)["train"])
    rows = rows_of(opened, tested_subjects(split, settings.fold if settings.own else None))
    with prediction_csv(predictions, opened.attrs["units"]) as write:
        write(opened, rows, np.broadcast_to(mean, (len(rows), 2)))


def mean_gaze(store: Store, subjects: set[str]) -> np.ndarray:
    """(pitch, yaw) [2] rad of the mean gaze direction of `subjects`, or (x, y) [2] px of their mean gaze point; each
    of them counts the same.
    """
    rows = rows_of(store, subjects)
    angles, target, names = store.attrs["units"] == "rad", store.target[rows], store.subject[rows]
    values = angles_to_vector(target) if angles else target.astype(np.float64)
    means = [values[names == name].mean(axis=0) for name in np.unique(names)]
    mean = np.mean(means, axis=0)
    return vector_to_angles(mean) if angles else mean
