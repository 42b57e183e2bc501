"""The mean error of each network with its interval, and which of them is the best, for all tables."""

from typing import Any

import numpy as np
import pandas as pd

from gazepipe.common.markdown import MISSING, Notes, error_text, row_name
from gazepipe.evaluation import inference
from gazepipe.evaluation.comparisons import Network, shared
from gazepipe.evaluation.results import is_control
from gazepipe.evaluation.settings import CONTROLS

SINGLE = "One seed: the intervals are over subjects only, and hold for these trainings, not for the methods."
BOLD = (
    "Bold: the best of a column, and those not significantly different from it (p ≥ 0.05, corrected after Holm);"
    " controls left out."
)
INTERVAL = "[95 % interval over subjects and trainings]"


def _names(unit: str) -> list[str]:
    return [f"{name}_{unit}" if unit else name for name in ("error", "low", "high")]


def mean_columns(errors: pd.DataFrame, unit: str, network: Network) -> dict[str, Any]:
    """The mean of a network's errors, a long table with fold, seed, subject, error.

    error, low and high (95 % interval over subjects and seeds), with the unit in their names where it is not empty;
    n_subjects, n_seeds, reason (why numbers are missing, or hold for one training only). What is predicted without a
    network has no chance of training. Raises UserError as `inference.mean_interval` does.
    """
    found = inference.mean_interval(errors, name=row_name(*network))
    certain = network[0] in CONTROLS and found.reason == inference.ONE_TRAINING
    return {
        **dict(zip(_names(unit), (found.mean, found.low, found.high), strict=True)),
        "n_subjects": found.n_subjects,
        "n_seeds": found.n_seeds,
        "reason": "" if certain else found.reason,
    }


def mean_rows(errors: pd.DataFrame, by: list[str], unit: str) -> pd.DataFrame:
    """`mean_columns` of each group of `errors`, by the columns `by`, model among them; in the order of the rows."""
    found = inference.mean_intervals(errors, by)
    certain = found["model"].isin(CONTROLS) & (found["reason"] == inference.ONE_TRAINING)
    found["reason"] = found["reason"].mask(certain, "")
    named = found.rename(columns=dict(zip(("mean", "low", "high"), _names(unit), strict=True)))
    return named[[*by, *_names(unit), "n_subjects", "n_seeds", "reason"]]


def introduction(frame: pd.DataFrame, marked: set[tuple]) -> list[str]:
    """What must be said above a table of `mean_columns`, as one paragraph or none: that its intervals hold for one
    training only, and what is bold (`marked`, of `best`).
    """
    said = [SINGLE] * bool((frame["reason"] == inference.ONE_TRAINING).any()) + [BOLD] * bool(marked)
    return [" ".join(said)] if said else []


def mean_text(row: Any, unit: str, spread: float, notes: Notes, bold: bool = False) -> str:
    """5.00 ± 0.71 [3.90, 6.10]: a row of `mean_columns` with its spread; a dash where there is no mean."""
    error, low, high = (getattr(row, name) for name in _names(unit))
    mark = notes.mark("" if row.reason == inference.ONE_TRAINING else row.reason)
    return MISSING + mark if np.isnan(error) else error_text(error, spread, low, high, bold) + mark


def best(errors: pd.DataFrame, by: list[str], settings: Any) -> set[tuple]:
    """The best network of each group and those not significantly different from it, as (*by, model, method).

    `errors` has the columns `by`, model, method, fold, seed, subject, error; `settings` holds the methods' links.
    p-values against the best are corrected after Holm over all groups. Controls take no part. A group with one network,
    one seed or one subject has no best, and a network whose runs lack subjects is none.
    """
    marked, rivals = set(), []
    for names, group in errors.groupby(by, sort=False):
        parts = dict(list(group.groupby(["model", "method"], sort=False)))
        networks = _complete({name: part for name, part in parts.items() if not is_control(settings, *name)})
        if len(networks) < 2:
            continue
        first = min(networks, key=lambda network: networks[network]["error"].mean())
        marked.add((*names, *first))
        rivals += [(names, other, _against(networks, other, first, settings)) for other in networks if other != first]
    p_values = inference.holm([found.p for *_, found in rivals])
    for (names, other, found), p in zip(rivals, p_values, strict=True):
        equal = found.reason == inference.NO_SPREAD and abs(found.difference) < inference.ROUNDING
        if p >= inference.ALPHA or equal:
            marked.add((*names, *other))
    return marked


def _complete(parts: dict[Network, pd.DataFrame]) -> dict[Network, pd.DataFrame]:
    """The errors of the networks that can be compared, all of them with several seeds and subjects, else none."""
    found = {network: inference.mean_interval(part) for network, part in parts.items()}
    if any(mean.n_seeds < 2 or mean.n_subjects < 2 for mean in found.values()):
        return {}
    return {network: part for network, part in parts.items() if not found[network].reason}


def _against(
    networks: dict[Network, pd.DataFrame], network: Network, first: Network, settings: Any
) -> inference.Comparison:
    linked, names = shared(settings.methods, network, first), (row_name(*network), row_name(*first))
    return inference.compare(networks[network], networks[first], paired_seeds=linked, names=names)
