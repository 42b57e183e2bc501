"""What structural pruning costs and what it saves: each pruned network beside its full one and beside its twins."""

import pandas as pd

from gazepipe.common.markdown import count, label, percent_text, table
from gazepipe.evaluation.comparisons import PERCENT, paired
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.settings import Statistics
from gazepipe.evaluation.statistics import subject_means
from gazepipe.report.settings import MethodSummary

COLUMNS = ("dataset", "model", "method", "params", "macs", "error_deg", "against", "role", "against_deg")
CHANGES = ("change_percent", "low_percent", "high_percent", "p_wilcoxon", "n_subjects")
ROLES = {"full": "the full network", "scratch": "from scratch", "scratch_kd": "from scratch, with KD"}


def compression(results: Results) -> pd.DataFrame:
    """One row per data set, pruned network and network that it is compared with: COLUMNS and CHANGES.

    `role` of the other network: full (the one that the pruned one was cut from), scratch or scratch_kd (its twin, of
    the same shape, trained from nothing). Changes are those of the error on the data set's own test subjects, in
    percent of the other network's, with the 95 % bootstrap interval over subjects; negative where pruning wins.
    """
    settings = results.settings
    own = results.errors[results.errors.train == results.errors.test]
    subjects = {names: subject_means(group) for names, group in own.groupby(["train", "model", "method"], sort=False)}
    rows = []
    for (dataset, model, method), mine in subjects.items():
        if model not in settings.models or not settings.methods[method].structural:
            continue
        cost = results.profile(model, method)["sizes"]["run"]
        for other, role in others(settings.methods, method).items():
            theirs = subjects.get((dataset, model, other))
            if theirs is None:
                continue
            rows.append(
                {
                    **{"dataset": dataset, "model": model, "method": method},
                    **{"params": cost["params"], "macs": cost["macs"], "error_deg": mine.mean()},
                    **{"against": other, "role": role, "against_deg": theirs.mean()},
                    **relative_change(mine, theirs, settings.statistics),
                }
            )
    return pd.DataFrame(rows, columns=[*COLUMNS, *CHANGES])


def others(methods: dict[str, MethodSummary], method: str) -> dict[str, str]:
    """The selected methods that a pruned one is compared with, and their roles."""
    full = methods[method].parent
    while full in methods and methods[full].structural:
        full = methods[full].parent
    twins = {name: entry for name, entry in methods.items() if entry.shape == method}
    roles = {name: "scratch_kd" if entry.teacher else "scratch" for name, entry in twins.items()}
    return {full: "full", **roles} if full in methods else roles


def relative_change(mine: pd.Series, theirs: pd.Series, statistics: Statistics) -> dict:
    """CHANGES of the errors `mine` against `theirs`, both by subject."""
    return dict(zip(CHANGES, paired(mine, theirs, PERCENT, statistics).values(), strict=True))


def compression_section(results: Results, frame: pd.DataFrame) -> list[str]:
    """One row per pruned network and network that it is compared with."""
    if frame.empty:
        return []
    epochs = {(row.model, row.method): "/".join(map(str, row.epochs)) for row in results.settings.networks}
    rows = []
    for row in frame.itertuples():
        cost = results.profile(row.model, row.against)["sizes"]["run"]
        rows.append(
            {
                "Model": label(row.model, row.method),
                "Trained on": row.dataset,
                "Params": count(row.params),
                "FLOPs": count(row.macs),
                "Error (degrees)": f"{row.error_deg:.2f}",
                "Against": f"{row.against}: {ROLES[row.role]}, {epochs[row.model, row.against]} epochs",
                "its params": f"{cost['params'] / row.params:.1f}×",
                "its FLOPs": f"{cost['macs'] / row.macs:.1f}×",
                "its error": f"{row.against_deg:.2f}",
                "Change of the error (%)": percent_text(pd.Series(row._asdict())),
            }
        )
    return [
        "## Structural pruning",
        "Each pruned network against the one that it was cut from, and against networks of its very shape that were"
        " trained from nothing. Change of the error on the data set's own test subjects, in percent of the other's,"
        " with the 95 % bootstrap interval over subjects; negative: the pruned network is better. Size at this run's"
        " own patch, of the first fold and seed. A pruned network's epochs come after those of the full one.",
        table(pd.DataFrame(rows)),
    ]
