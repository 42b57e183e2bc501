"""Benchmark, Cross-dataset and Comparisons: mean angular error over subjects.

The unit of replication is the subject: seeds (and, across data sets, the networks of the folds) are averaged within a
subject first, an error is the mean over subjects, and the spread is the standard deviation over folds.
"""

import pandas as pd

from gazepipe.common.markdown import error_text, row_name, table
from gazepipe.evaluation.comparisons import compare, comparison_table
from gazepipe.evaluation.results import MEAN, Results
from gazepipe.evaluation.statistics import bootstrap_mean, subject_means
from gazepipe.report import published
from gazepipe.report.settings import DatasetSummary

ROW = ["model", "method"]
RUN = ["train", "test", *ROW]


def benchmark(results: Results) -> pd.DataFrame:
    """In-dataset error: dataset, model, method, error_deg, std_deg (over folds), n_subjects."""
    own = results.errors[results.errors.train == results.errors.test]
    return _summary(own.rename(columns={"train": "dataset"}), ["dataset", *ROW])


def benchmark_section(results: Results, frame: pd.DataFrame) -> list[str]:
    """One row per network, one column per data set."""
    counts = frame.groupby("dataset").n_subjects.first()
    datasets = results.settings.datasets
    columns = {(name, name): f"{name} ({_tested(counts[name], entry)})" for name, entry in datasets.items()}
    return [
        "## Benchmark",
        "Mean angular error in degrees on subjects never trained on, ± standard deviation over folds,"
        " [95 % bootstrap interval over subjects]. Lower is better.",
        _wide(results, frame.assign(train=frame.dataset, test=frame.dataset), columns),
        published.NOTE,
        table(published.BENCHMARK),
    ]


def cross_dataset(results: Results) -> pd.DataFrame:
    """Error on the data set not trained on: train, test, model, method, error_deg, std_deg, n_subjects."""
    return _summary(results.errors[results.errors.train != results.errors.test], RUN)


def cross_dataset_section(results: Results, frame: pd.DataFrame) -> list[str]:
    """One row per network, one column per pair of data sets; nothing with a single data set."""
    if frame.empty:
        return []
    names = list(results.settings.datasets)
    columns = {(a, b): f"{a} → {b}" for a in names for b in names if a != b}
    return [
        "## Cross-dataset",
        "Trained on the left data set, tested on every subject of the right one. Degrees; the networks of all folds"
        " are averaged within a subject first, ± is the standard deviation over folds.",
        _wide(results, frame, columns),
        published.NOTE,
        table(published.CROSS_DATASET),
    ]


def comparisons(results: Results) -> pd.DataFrame:
    """Each method against the first one listed, in degrees: see `evaluation.comparisons`; by train and test."""
    baseline, *others = results.settings.methods
    networks = results.errors[results.errors.model != MEAN]
    pairs = [(method, baseline) for method in others]
    return compare(networks, ["train", "test"], pairs, "deg", results.settings.statistics)


def comparisons_section(results: Results, frame: pd.DataFrame) -> list[str]:
    """One row per comparison; nothing with a single method."""
    if frame.empty:
        return []
    return [
        "## Does it help? Paired over subjects",
        "Negative is better. 95 % bootstrap interval of the difference; p of the Wilcoxon signed-rank test,"
        " Holm-corrected over this table. With few subjects no p-value can be small: read the interval.",
        comparison_table(frame, "deg"),
    ]


def _summary(errors: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    rows = []
    for names, group in errors.groupby(by, sort=False):
        subjects = subject_means(group)
        folds = group.groupby(["fold", "subject"]).error.mean().groupby("fold").mean()
        rows.append((*names, subjects.mean(), folds.std(ddof=1), len(subjects)))
    return pd.DataFrame(rows, columns=[*by, "error_deg", "std_deg", "n_subjects"])


def _wide(results: Results, frame: pd.DataFrame, columns: dict[tuple[str, str], str]) -> str:
    """Markdown of `frame` (RUN, error_deg, std_deg): a row per network, a column per (train, test), with intervals."""
    groups = dict(list(results.errors.groupby(RUN)))
    rows: dict[tuple[str, str], dict] = {}
    for row in frame.itertuples():
        subjects = subject_means(groups[row.train, row.test, row.model, row.method])
        interval = bootstrap_mean(subjects.to_numpy(), **dict(results.settings.statistics))
        cells = rows.setdefault((row.model, row.method), {"Model": row_name(row.model, row.method)})
        cells[columns[row.train, row.test]] = error_text(row.error_deg, row.std_deg, *interval)
    return table(pd.DataFrame(rows.values()))


def _tested(count: int, dataset: DatasetSummary) -> str:
    return f"{count} test {dataset.unit}{'' if count == 1 else 's'}"
