"""What structural pruning costs and what it saves: each pruned network beside its full one and beside its twins."""

import pandas as pd

from gazepipe.common.markdown import MISSING, Block, Notes, count, label
from gazepipe.evaluation.comparisons import (
    PERCENT,
    between,
    comparison_cells,
    corrected,
    epochs_note,
    legend,
    noted,
)
from gazepipe.evaluation.inference import mean_interval
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.sentences import named, sentences
from gazepipe.report.settings import MethodSummary

COLUMNS = ("dataset", "model", "method", "params", "macs", "error_deg", "against", "role", "against_deg")
ROLES = {
    "control": "its control",
    "full": "the full network",
    "scratch": "from scratch",
    "scratch_kd": "from scratch, with KD",
}


def compression(results: Results) -> pd.DataFrame:
    """One row per data set, pruned network and network that it is compared with: COLUMNS and those of a comparison.

    `role` of the other network: full (the one that the pruned one was cut from), scratch or scratch_kd (its twin, of
    the same shape, trained from nothing), or control (trained as long without pruning, where it is none of those).
    Differences are those of the error on the data set's own test subjects, in percent of the other network's
    (`evaluation.comparisons.columns`); negative where pruning wins.
    """
    settings = results.settings
    own = results.errors[results.errors.train == results.errors.test]
    errors = dict(list(own.groupby(["train", "model", "method"], sort=False)))
    rows = []
    for (dataset, model, method), mine in errors.items():
        if model not in settings.models or not settings.methods[method].structural:
            continue
        cost = results.profile(model, method)["sizes"]["run"]
        for other, role in others(settings.methods, method).items():
            theirs = errors.get((dataset, model, other))
            if theirs is None:
                continue
            found = between(mine, theirs, (model, method), (model, other), PERCENT, settings)
            if settings.methods[method].control == other:
                found = noted(found, epochs_note(settings, dataset, model, method, other))
            rows.append(
                {
                    **{"dataset": dataset, "model": model, "method": method},
                    **{"params": cost["params"], "macs": cost["macs"], "error_deg": mean_interval(mine).mean},
                    **{"against": other, "role": role, "against_deg": mean_interval(theirs).mean},
                    **found,
                }
            )
    return corrected(rows, list(COLUMNS), PERCENT)


def others(methods: dict[str, MethodSummary], method: str) -> dict[str, str]:
    """The selected methods that a pruned one is compared with, its control first, and their roles."""
    full = methods[method].parent
    while full in methods and methods[full].structural:
        full = methods[full].parent
    twins = {name: entry for name, entry in methods.items() if entry.shape == method}
    roles = {name: "scratch_kd" if entry.teacher else "scratch" for name, entry in twins.items()}
    roles = {full: "full", **roles} if full in methods else roles
    control = methods[method].control
    return {control: roles.get(control, "control"), **roles} if control in methods else roles


def compression_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per pruned network and network that it is compared with."""
    if frame.empty:
        return []
    epochs = {(row.model, row.method): "/".join(map(str, row.epochs)) for row in results.settings.networks}
    rows, notes = [], Notes()
    for row in frame.itertuples():
        cost = results.profile(row.model, row.against)["sizes"]["run"]
        rows.append(
            {
                "Model": label(row.model, row.method),
                "Trained on": row.dataset,
                "Params": count(row.params),
                "FLOPs": count(row.macs),
                "Error (degrees)": _error_text(row.error_deg, row.reason, notes),
                "Against": f"{row.against}: {ROLES[row.role]}, {epochs[row.model, row.against]} epochs",
                "its params": f"{cost['params'] / row.params:.1f}×",
                "its FLOPs": f"{cost['macs'] / row.macs:.1f}×",
                "its error": _error_text(row.against_deg, row.reason, notes),
            }
        )
    cells = comparison_cells(frame, PERCENT, notes)
    return [
        "## Structural pruning",
        "Each pruned network against the one that it was cut from, and against networks of its very shape that were"
        " trained from nothing. Errors on the data set's own test subjects; differences in percent of the other's"
        " error. Size at this run's own patch, of the first fold and seed. A pruned network's epochs come after"
        " those of the full one.",
        legend(frame, PERCENT, results.settings.statistics),
        pd.DataFrame(rows).assign(**cells),
        *notes.paragraphs(),
    ]


def _error_text(error: float, reason: str, notes: Notes) -> str:
    return MISSING + notes.mark(reason) if pd.isna(error) else f"{error:.2f}"


def compression_sentences(results: Results, frame: pd.DataFrame) -> list[Block]:
    """What the comparisons say; nothing without any."""
    if frame.empty:
        return []
    return ["### Pruned networks", *sentences(named(frame), PERCENT, results.settings.statistics)]
