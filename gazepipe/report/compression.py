"""What structural pruning costs and what it saves: each pruned network beside its full one and beside its twins."""

from pathlib import Path

import pandas as pd

from gazepipe import paths
from gazepipe.evaluation.statistics import paired_comparison, subject_means
from gazepipe.io import read_json
from gazepipe.report.markdown import count, label, percent_text, table

COLUMNS = ("dataset", "model", "method", "params", "macs", "error_deg", "against", "role", "against_deg")
CHANGES = ("change_percent", "low_percent", "high_percent", "p_wilcoxon", "n_subjects")
ROLES = {"full": "the full network", "scratch": "from scratch", "scratch_kd": "from scratch with KD"}


def frame(errors: pd.DataFrame, block: dict, root: Path) -> pd.DataFrame:
    """One row per data set, pruned network and network that it is compared with: COLUMNS and CHANGES.

    `role` of the other network: full (the one that the pruned one was cut from), scratch or scratch_kd (its twin, of
    the same shape, trained from nothing). Changes are those of the error on the data set's own test subjects, in
    percent of the other network's, with the 95 % bootstrap interval over subjects; negative where pruning wins.
    `errors` and `block` as in `gazepipe.report.tables`.
    """
    own = errors[errors.train == errors.test]
    subjects = {names: subject_means(group) for names, group in own.groupby(["train", "model", "method"], sort=False)}
    rows = []
    for dataset, model, method in subjects:
        if model in block["models"] and block["methods"][method]["structural"]:
            mine = subjects[dataset, model, method]
            cost = read_json(paths.profile(str(root), model, method))["sizes"]["run"]
            for role, other in others(block["methods"], method).items():
                theirs = subjects.get((dataset, model, other))
                if theirs is None:
                    continue
                rows.append(
                    {
                        **{"dataset": dataset, "model": model, "method": method},
                        **{"params": cost["params"], "macs": cost["macs"], "error_deg": mine.mean()},
                        **{"against": other, "role": role, "against_deg": theirs.mean()},
                        **relative_change(mine, theirs, block["statistics"]),
                    }
                )
    return pd.DataFrame(rows, columns=[*COLUMNS, *CHANGES])


def others(methods: dict[str, dict], method: str) -> dict[str, str]:
    """By role, the methods that a pruned one is compared with, those that are selected."""
    full = methods[method]["parent"]
    while methods.get(full, {}).get("structural"):
        full = methods[full]["parent"]
    found = {"full": full} if full in methods else {}
    for name, entry in methods.items():
        if entry["shape"] == method:
            found["scratch_kd" if entry["teacher"] else "scratch"] = name
    return found


def relative_change(mine: pd.Series, theirs: pd.Series, statistics: dict) -> dict:
    """CHANGES of the errors `mine` against `theirs`, both by subject."""
    change, percent = paired_comparison(mine, theirs, **statistics), 100 / theirs.mean()
    values = (percent * change["difference"], percent * change["low"], percent * change["high"])
    return dict(zip(CHANGES, (*values, change["p_wilcoxon"], change["n_subjects"]), strict=True))


def sections(block: dict, found: pd.DataFrame, root: Path) -> list[str]:
    """The table of `frame` in Markdown; one row per pruned network."""
    if found.empty:
        return []
    rows = []
    for (dataset, model, method), group in found.groupby(["dataset", "model", "method"], sort=False):
        first = group.iloc[0]
        full = read_json(paths.profile(str(root), model, others(block["methods"], method)["full"]))["sizes"]["run"]
        cells = {
            "Model": label(model, method),
            "Trained on": dataset,
            "Params": f"{count(first.params)} ({full['params'] / first.params:.1f}× fewer)",
            "FLOPs": f"{count(first.macs)} ({full['macs'] / first.macs:.1f}× fewer)",
            "Error (degrees)": f"{first.error_deg:.2f}",
        }
        for role, text in ROLES.items():
            row = group[group.role == role]
            cells[f"against {text} (%)"] = (
                "" if row.empty else f"{percent_text(row.iloc[0])} of {row.iloc[0].against_deg:.2f}"
            )
        rows.append(cells)
    return [
        "## Structural pruning",
        "Change of the error on the data set's own test subjects, in percent of the other network's error, with the"
        " 95 % bootstrap interval over subjects; negative: the pruned network is better. The networks from scratch"
        " have the pruned one's very shape. Size at this run's own patch, of the first fold and seed.",
        table(pd.DataFrame(rows)),
    ]
