"""The error of every test subject of each network: how tables list it, and how they show it."""

from typing import Any

import numpy as np
import pandas as pd

from gazepipe.common.markdown import MISSING, Block, Notes, error_text, plain, row_name
from gazepipe.evaluation.metrics import natural_order
from gazepipe.evaluation.results import is_control
from gazepipe.evaluation.settings import CONTROLS

ROW = ["dataset", "model", "method"]
MOST = 6
"""Networks side by side in one table."""
UNITS = {"deg": "degrees", "px": "px"}


def subject_errors(errors: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The error of each subject in each run: ROW, subject, fold, seed, error_<unit>; subjects in natural order.

    `errors` has the columns dataset, model, method, fold, seed, subject, error.
    """
    places = {subject: place for place, subject in enumerate(_ordered(errors["subject"]))}
    network = errors.groupby(ROW, sort=False).ngroup()
    rows = errors.assign(network=network, place=errors["subject"].map(places))
    rows = rows.sort_values(["network", "place", "fold", "seed"], kind="stable", ignore_index=True)
    return rows[[*ROW, "subject", "fold", "seed", "error"]].rename(columns={"error": f"error_{unit}"})


def subject_tables(frame: pd.DataFrame, unit: str, settings: Any) -> list[Block]:
    """The tables of `subject_errors`: a row per subject, a column per network, at most MOST of them side by side.

    A cell is the mean over seeds (of the mean over folds, where a subject was tested in several) ± the standard
    deviation over seeds; a dash, and why, where a run of the network lacks the subject. `settings` holds the data sets'
    units and the methods.
    """
    blocks = []
    for dataset, rows in frame.rename(columns={f"error_{unit}": "error"}).groupby("dataset", sort=False):
        word = settings.datasets[dataset].unit
        networks, subjects = rows[["model", "method"]].drop_duplicates(), _ordered(rows["subject"])
        seeds = sorted(set(rows["seed"][~rows["model"].isin(CONTROLS)]))
        spread = ", mean over seeds ± standard deviation over seeds" if len(seeds) > 1 else ", one seed"
        for first in range(0, len(networks), MOST):
            notes, columns = Notes(), {}
            for model, method in networks.iloc[first : first + MOST].itertuples(index=False):
                own = rows[(rows["model"] == model) & (rows["method"] == method)]
                expected = [] if model in CONTROLS else seeds
                name = row_name(model, method, is_control(settings, model, method))
                columns[name] = _column(own, subjects, expected, notes)
            more = ", further networks" if first else ""
            blocks.append(f"Trained and tested on {dataset}: error ({UNITS[unit]}) of every test {word}{spread}{more}:")
            blocks += [
                pd.DataFrame({word.capitalize(): [plain(name) for name in subjects], **columns}),
                *notes.paragraphs(),
            ]
    return blocks


def _column(rows: pd.DataFrame, subjects: list[str], seeds: list[int], notes: Notes) -> list[str]:
    """The cells of one network, a text for each of `subjects`; it should have been trained with `seeds`."""
    cells = rows.pivot(index=["subject", "fold"], columns="seed", values="error")
    cells = cells.reindex(columns=sorted({*cells.columns, *seeds}))
    by_seed = cells.groupby("subject").mean()
    mean, spread = by_seed.mean(axis=1), by_seed.std(axis=1, ddof=1)
    lacking = {}
    for (subject, fold), missing in cells.isna().iterrows():
        for seed in missing.index[missing]:
            lacking.setdefault(subject, _lacking(cells, seed, fold))
    name = row_name(rows["model"].iloc[0], rows["method"].iloc[0])
    shown = []
    for subject in subjects:
        if subject in mean and subject not in lacking:
            shown.append(error_text(mean[subject], spread[subject], np.nan, np.nan))
        else:
            shown.append(MISSING + notes.mark(f"{name}: {lacking.get(subject, 'not tested on it, as others are')}"))
    return shown


def _lacking(cells: pd.DataFrame, seed: int, fold: int) -> str:
    """Why the mean of a subject is unknown: the whole seed is missing, or one fold's error."""
    if cells[seed].isna().all():
        return f"no run of seed {seed}, as other networks have"
    return f"seed {seed} has no error of it in fold {fold}, as other seeds have"


def _ordered(subjects: pd.Series) -> list[str]:
    return sorted(set(subjects), key=natural_order)
