"""Benchmark, Cross-dataset, Comparisons and Per subject: mean angular error over subjects.

An error is the mean over subjects, each subject's being the mean over seeds (and, across data sets, over the networks
of the folds). Intervals are over subjects and seeds, and the spread is the standard deviation over folds.
"""

import numpy as np
import pandas as pd

from gazepipe.common.markdown import Block, Notes
from gazepipe.evaluation.comparisons import baseline_pairs, compare, comparison_table, legend, pictures, without_control
from gazepipe.evaluation.means import INTERVAL, best, introduction, mean_columns, mean_text
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.sentences import named, sentences
from gazepipe.evaluation.settings import CONTROLS
from gazepipe.evaluation.subjects import subject_errors, subject_tables
from gazepipe.report import published
from gazepipe.report.figures import matrix
from gazepipe.report.settings import DatasetSummary

ROW = ["model", "method"]
RUN = ["train", "test", *ROW]
EPOCHS = (
    "Epochs: of all training that is in the weights, so with that of the parents, images without a label counted as"
    " well; on each data set."
)
IN_ITALICS = "In italics: controls, which a network must beat."
SUMMARY = ["error_deg", "low_deg", "high_deg", "std_deg", "n_subjects", "n_seeds", "reason"]


def benchmark(results: Results) -> pd.DataFrame:
    """In-dataset error: dataset, model, method, `mean_columns`, std_deg (over folds), epochs (with those of the
    parents; none without a network).
    """
    own = results.errors[results.errors.train == results.errors.test]
    frame = _summary(own.rename(columns={"train": "dataset"}), ["dataset", *ROW])
    totals = {(each.model, each.method): each.total_epochs for each in results.settings.networks}
    epochs = [totals.get((row.model, row.method), {}).get(row.dataset) for row in frame.itertuples()]
    return frame.assign(epochs=pd.array(epochs, dtype="Int64"))


def benchmark_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per network, one column per data set."""
    counts = frame.groupby("dataset").n_subjects.first()
    datasets = results.settings.datasets
    columns = {(name, name): f"{name} ({_tested(counts[name], entry)})" for name, entry in datasets.items()}
    return [
        "## Benchmark",
        f"Mean angular error in degrees on subjects never trained on, ± standard deviation over folds, {INTERVAL}."
        f" Lower is better. {EPOCHS} {IN_ITALICS}",
        *_wide(results, frame.assign(train=frame.dataset, test=frame.dataset), columns),
        published.NOTE,
        published.BENCHMARK,
    ]


def cross_dataset(results: Results) -> pd.DataFrame:
    """Error on the data set not trained on: train, test, model, method, `mean_columns`, std_deg (over folds)."""
    return _summary(results.errors[results.errors.train != results.errors.test], RUN)


def cross_dataset_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per network, one column per pair of data sets; nothing with a single data set."""
    if frame.empty:
        return []
    names = list(results.settings.datasets)
    columns = {(a, b): f"{a} → {b}" for a in names for b in names if a != b}
    return [
        "## Cross-dataset",
        "Trained on the left data set, tested on every subject of the right one. Degrees; the errors of the networks of"
        f" all folds are averaged within a subject first, ± standard deviation over folds, {INTERVAL}."
        f" {IN_ITALICS}",
        *_wide(results, frame, columns),
        *matrix.pictures(results),
        published.NOTE,
        published.CROSS_DATASET,
    ]


def comparisons(results: Results) -> pd.DataFrame:
    """Each method against its control, what it comes from and the first one listed, in degrees: see
    `evaluation.comparisons`; by train and test.
    """
    networks = results.errors[~results.errors.model.isin(CONTROLS)]
    return compare(networks, ["train", "test"], baseline_pairs(results.settings.methods), "deg", results.settings)


def comparisons_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per comparison; nothing with a single method."""
    if frame.empty:
        return []
    return [
        "## Does it help?",
        legend(frame, "deg", results.settings.statistics),
        *comparison_table(frame, "deg"),
        *without_control(results.settings),
        *pictures(results, "forest"),
    ]


def comparisons_sentences(results: Results, frame: pd.DataFrame) -> list[Block]:
    """What the comparisons say; nothing without any."""
    if frame.empty:
        return []
    return ["### Gaze angles", *sentences(named(frame), "deg", results.settings.statistics)]


def subjects(results: Results) -> pd.DataFrame:
    """In-dataset error of every test subject in each run: see `evaluation.subjects.subject_errors`, in degrees."""
    own = results.errors[results.errors.train == results.errors.test]
    return subject_errors(own.rename(columns={"train": "dataset"}), "deg")


def subjects_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per subject, one column per network, a table or more per data set."""
    return ["## Per subject", *subject_tables(frame, "deg", results.settings)]


def _summary(errors: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    rows = []
    for names, group in errors.groupby(by, sort=False):
        columns = mean_columns(group, "deg", names[-2:])
        folds = group.groupby(["fold", "subject"]).error.mean().groupby("fold").mean()
        known = not np.isnan(columns["error_deg"])
        rows.append({**dict(zip(by, names, strict=True)), **columns, "std_deg": folds.std(ddof=1) if known else np.nan})
    return pd.DataFrame(rows, columns=[*by, *SUMMARY])


def _wide(results: Results, frame: pd.DataFrame, columns: dict[tuple[str, str], str]) -> list[Block]:
    """Blocks of `frame` (RUN, SUMMARY): a row per network, a column per (train, test), and what to say of it."""
    chosen = {(row.train, row.test) for row in frame.itertuples()}
    errors = results.errors[[pair in chosen for pair in zip(results.errors.train, results.errors.test, strict=True)]]
    marked, notes = best(errors, ["train", "test"], results.settings), Notes()
    rows: dict[tuple[str, str], dict] = {}
    for row in frame.itertuples():
        names = (row.train, row.test, row.model, row.method)
        cells = rows.setdefault(names[2:], {"Model": results.row_name(row.model, row.method)})
        cells[columns[row.train, row.test]] = mean_text(row, "deg", row.std_deg, notes, names in marked)
    shown = pd.DataFrame(rows.values())
    if "epochs" in frame:
        shown["Epochs"] = [_epochs_text(frame[(frame[ROW] == names).all(axis=1)].epochs) for names in rows]
    return [*introduction(frame, marked), shown, *notes.paragraphs()]


def _epochs_text(epochs: pd.Series) -> str:
    """6/8: of the data sets, those that differ."""
    return "/".join(dict.fromkeys(epochs.dropna().astype(str)))


def _tested(count: int, dataset: DatasetSummary) -> str:
    return f"{count} test {dataset.unit}{'' if count == 1 else 's'}"
