"""Networks compared in pairs on the same subjects: one function that compares, one that shows.

A comparison is a difference of errors, in their own unit or in percent of the other network's, with its 95 % bootstrap
interval over subjects and the p-value of the Wilcoxon signed-rank test; negative where the first of a pair is better.
"""

import pandas as pd

from gazepipe.common.markdown import interval_text, label, table
from gazepipe.evaluation.settings import Statistics
from gazepipe.evaluation.statistics import holm, paired_comparison, subject_means

PERCENT = "percent"
HEADINGS = {"train": "Trained on", "test": "Tested on"}
"""Columns that are shown beside the networks, where a table has them."""
DIFFERENCES = {"deg": ("Difference (degrees)", "+.2f"), PERCENT: ("Difference of the error (%)", "+.1f")}
"""Heading and form of a difference, by its unit."""


def paired(mine: pd.Series, theirs: pd.Series, unit: str, statistics: Statistics) -> dict[str, float]:
    """difference_<unit>, low_<unit>, high_<unit>, p_wilcoxon, n_subjects of the errors `mine` against `theirs`, both by
    subject; the unit `percent`: in percent of the mean of `theirs`."""
    found = paired_comparison(mine, theirs, **dict(statistics))
    factor = 100 / theirs.mean() if unit == PERCENT else 1.0
    changes = {f"{name}_{unit}": factor * found[name] for name in ("difference", "low", "high")}
    return {**changes, "p_wilcoxon": found["p_wilcoxon"], "n_subjects": found["n_subjects"]}


def compare(
    errors: pd.DataFrame, by: list[str], pairs: list[tuple[str, str]], unit: str, statistics: Statistics
) -> pd.DataFrame:
    """Each pair of methods (method, baseline) on the subjects of each model: `by`, model, method, baseline, those of
    `paired`, and p_holm, corrected over the table.

    `errors` has the columns `by`, model, method, subject, error; pairs of which a group lacks one are left out.
    """
    rows = []
    for names, group in errors.groupby([*by, "model"], sort=False):
        subjects = {method: subject_means(part) for method, part in group.groupby("method")}
        for method, baseline in pairs:
            if method in subjects and baseline in subjects:
                result = paired(subjects[method], subjects[baseline], unit, statistics)
                rows.append((*names, method, baseline, *result.values()))
    columns = [*by, "model", "method", "baseline", *(f"{name}_{unit}" for name in ("difference", "low", "high"))]
    frame = pd.DataFrame(rows, columns=[*columns, "p_wilcoxon", "n_subjects"])
    frame.insert(len(columns) + 1, "p_holm", holm(frame.p_wilcoxon.to_numpy()))
    return frame


def comparison_table(frame: pd.DataFrame, unit: str) -> str:
    """The table of `compare` in Markdown."""
    heading, form = DIFFERENCES[unit]
    differences = frame[[f"difference_{unit}", f"low_{unit}", f"high_{unit}"]].itertuples(index=False)
    cells = {
        **{text: frame[column] for column, text in HEADINGS.items() if column in frame},
        "Model": [label(row.model, row.method) for row in frame.itertuples()],
        "Against": [label(row.model, row.baseline) for row in frame.itertuples()],
        heading: [f"{difference:{form}}{interval_text(low, high, form)}" for difference, low, high in differences],
        "p (Holm)": ["" if pd.isna(p) else f"{p:.3f}" for p in frame.p_holm],
        "Subjects": frame.n_subjects,
    }
    return table(pd.DataFrame(cells))
