"""Personal calibration: the error that is left after k samples of the person have corrected the predictions.

Of a network's own data set the folds of one seed are calibrated together, as the prior of the shrunk fit comes from the
other subjects; across data sets each network is calibrated on its own, and its folds are averaged within a subject.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gazepipe.common.markdown import MISSING, Block, Notes
from gazepipe.common.plotting import FAINT, looks
from gazepipe.evaluation import inference
from gazepipe.evaluation.calibration import FITS, NONE, SAMPLES, calibrate
from gazepipe.evaluation.means import INTERVAL, introduction, mean_rows, mean_text
from gazepipe.evaluation.results import Results, is_control

PAIR = ["train", "test"]
NETWORK = ["model", "method"]
BY = [*PAIR, *NETWORK, "fit", "k"]
COLUMNS = [*BY, "error_deg", "low_deg", "high_deg", "n_subjects", "n_seeds", "n_short", "against", "p_holm", "reason"]
LOOKS = looks(reversed(FITS))
HEADROOM, FLOOR = 1.25, 0.8
"""Where a panel ends and begins: over the largest of the bounds that lie around an error no larger than without
calibration, and over the lowest. What is larger leaves the panel, and its number is written there."""


def calibration(results: Results) -> pd.DataFrame:
    """Error after calibration of every network and fit: COLUMNS, a row for each number of samples k.

    `fit` none has k = 0; n_short subjects have fewer than k + 1 samples and are left out. `reason` says why numbers are
    missing, who is left out, or that they hold for one training only. For the network with the lowest error on each
    pair of data sets, `p_holm` is of the difference from the fit `against`: the one with the lowest error at this k,
    which itself is compared with none. It is over subjects and seeds, corrected after Holm over the pair's comparisons.
    """
    errors = _errors(results)
    known = errors[errors["error"].notna()]
    rows = mean_rows(known, BY, "deg")
    missing = errors[errors["error"].isna()].drop_duplicates([*BY, "subject"])
    short = missing.groupby(BY, sort=False).agg(n_short=("subject", "nunique"), why=("reason", "first"))
    rows = errors[BY].drop_duplicates().merge(rows, how="left", on=BY).merge(short.reset_index(), how="left", on=BY)
    rows[["n_short", "n_subjects", "n_seeds"]] = rows[["n_short", "n_subjects", "n_seeds"]].fillna(0).astype(int)
    rows["reason"] = [_reason(row) for row in rows.itertuples()]
    return rows.join(_tested(results, rows, known))[COLUMNS]


def calibration_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """A table for each pair of data sets, one row per network and fit, one column per number of samples."""
    paragraphs = [
        "## Personal calibration",
        "Mean angular error in degrees after k samples of a person have corrected the predictions of the person's other"
        f" samples, averaged over 50 draws, {INTERVAL}. *offset* adds the mean residual, *affine* also a 2×2 matrix by"
        " least squares (with fewer than 3 samples: the offset), *shrunk* is the affine correction shrunk towards none"
        " by what the other subjects' corrections look like. k = 0: no calibration. How it is computed and when to use"
        " which: docs/calibration.md.",
        *introduction(frame, set()),
    ]
    for (train, test), rows in frame.groupby(PAIR, sort=False):
        notes = Notes()
        shown = _wide(results, rows, notes)
        paragraphs += [
            f"**{_pair_text(train, test)}.** {_winners(results, frame, train, test)}",
            shown,
            *notes.paragraphs(),
        ]
    return [*paragraphs, f"![Error against samples of the person]({results.figure('calibration')})"]


def draw(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """Error against the number of samples, of the best network of each pair of data sets: a line for each fit."""
    pairs = list(frame.groupby(PAIR, sort=False).groups)
    across = min(len(pairs), 2)
    down = -(-len(pairs) // across)
    figure = Figure(figsize=(5.4 * across, 3.9 * down + 0.5), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, pair in zip(panels, pairs, strict=False):
        _panel(axes, results, frame, *pair)
    for axes in panels[len(pairs) :]:
        axes.remove()
    handles = {handle.get_label(): handle for handle in panels[0].get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles, loc="outside upper left", ncols=4)
    return {"calibration": figure}


def _panel(axes: Axes, results: Results, frame: pd.DataFrame, train: str, test: str) -> None:
    best = _best(results, frame, train, test)
    rows = frame[(frame[[*PAIR, *NETWORK]] == [train, test, *best]).all(axis=1)] if best else frame.iloc[:0]
    axes.set_title(f"{_pair_text(train, test)}\n{results.row_name(*best) if best else ''}", fontsize=10.5)
    axes.set(xlabel="samples of the person, k", ylabel="error, degrees")
    axes.set_xticks([_place(k) for k in SAMPLES], list(map(str, SAMPLES)))
    if rows.empty:
        return
    without = float(rows[rows["fit"] == NONE]["error_deg"].iloc[0])
    axes.axhline(without, color=FAINT, lw=1, label="no calibration")
    top = HEADROOM * max(without, *rows[rows["error_deg"] <= without]["high_deg"].dropna(), without)
    axes.set_ylim(FLOOR * rows[["error_deg", "low_deg"]].min(axis=None), top)
    for fit in FITS:
        _line(axes, rows[(rows["fit"] == fit) & rows["error_deg"].notna()], fit, top)


def _line(axes: Axes, rows: pd.DataFrame, fit: str, top: float) -> None:
    look = LOOKS[fit]
    places = [_place(k) for k in rows["k"]]
    axes.plot(places, rows["error_deg"], **look.of_line, marker=look.marker, ms=5, lw=1.6, label=fit, zorder=3)
    axes.fill_between(places, rows["low_deg"], rows["high_deg"], color=look.colour, alpha=0.13, lw=0)
    for place, error in zip(places, rows["error_deg"], strict=True):
        if error > top:
            said = f"{fit} {error:.1f} ↑"
            axes.annotate(
                said, (place, 1), (0, -3), axes.get_xaxis_transform(), "offset points", ha="center", va="top", size=8.5
            )


def _place(k: int) -> float:
    """Where k samples lie on the axis: doubling them is one step."""
    return float(np.log2(k + 1))


def _best(results: Results, frame: pd.DataFrame, train: str, test: str) -> tuple[str, str] | None:
    """The network with the lowest error without calibration, controls left out; None where there is no other."""
    pair = (frame["train"] == train) & (frame["test"] == test) & (frame["fit"] == NONE)
    rows = frame[pair & frame["error_deg"].notna()]
    rows = rows[[not is_control(results.settings, *network) for network in rows[NETWORK].itertuples(index=False)]]
    return None if rows.empty else tuple(rows.loc[rows["error_deg"].idxmin(), NETWORK])


def _tested(results: Results, rows: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """`against` and `p_holm` of the rows of the best network of each pair of data sets, by their index."""
    parts = []
    for train, test in rows.groupby(PAIR, sort=False).groups:
        best = _best(results, rows, train, test)
        if best is not None:
            own = [(table[[*PAIR, *NETWORK]] == [train, test, *best]).all(axis=1) for table in (rows, errors)]
            parts.append(_compared(rows[own[0]], errors[own[1]]))
    return pd.concat(parts) if parts else pd.DataFrame({"against": [], "p_holm": []})


def _compared(rows: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """At each k the fit with the lowest error against none, and the other fits against it, corrected after Holm."""
    against, p_values = {}, {}
    of_fit = dict(list(errors.groupby(["fit", "k"])))
    for k, fits in rows[(rows["fit"] != NONE) & rows["error_deg"].notna()].groupby("k"):
        lowest = fits.loc[fits["error_deg"].idxmin(), "fit"]
        for index, fit in fits["fit"].items():
            other = (NONE, 0) if fit == lowest else (lowest, k)
            mine, theirs = of_fit[fit, k], of_fit[other]
            theirs = theirs[theirs["subject"].isin(mine["subject"])]
            # The same runs, calibrated in two ways: their seeds are pairs.
            found = inference.compare(mine, theirs, paired_seeds=True, names=(f"{fit}, k = {k}", str(other)))
            against[index], p_values[index] = other[0], found.p
    return pd.DataFrame({"against": against, "p_holm": pd.Series(inference.holm([*p_values.values()]), [*p_values])})


def _winners(results: Results, frame: pd.DataFrame, train: str, test: str) -> str:
    """Which fit has the lowest error at each k, of the best network, and what of that is more than chance."""
    best = _best(results, frame, train, test)
    if best is None:
        return ""
    own = frame[(frame[[*PAIR, *NETWORK]] == [train, test, *best]).all(axis=1) & frame["against"].notna()]
    said: dict[str, list[str]] = {}
    for k, rows in own.groupby("k"):
        winner = rows[rows["against"] == NONE].iloc[0]
        said.setdefault(f"{winner['fit']}{_doubt(rows)}", []).append(str(k))
    if not said:
        return ""
    listed = "; ".join(f"k = {', '.join(ks)}: {fit}" for fit, ks in said.items())
    chance = "p corrected after Holm" if own["p_holm"].notna().any() else inference.ONE_SEED
    return f"Lowest error of {results.row_name(*best)}: {listed} ({chance})."


def _doubt(rows: pd.DataFrame) -> str:
    """What the fit with the lowest error is not significantly better than, of the rows of one k. A fit that gives the
    same numbers has no p-value.
    """
    if rows["p_holm"].isna().all():
        return ""
    names = rows["fit"].where(rows["against"] != NONE, NONE)
    like = list(names[rows["p_holm"] >= inference.ALPHA])
    return f", not significantly better than {' or '.join(like)}" if like else ", significantly better than all others"


def _errors(results: Results) -> pd.DataFrame:
    """Every subject's errors: BY, fold, seed, subject, error, reason."""
    parts = []
    for names, rows, folds in _calibrated_together(results):
        found = calibrate(rows)
        parts.append(found.assign(**names, fold=found["subject"].map(folds)))
    return pd.concat(parts, ignore_index=True)


def _calibrated_together(results: Results) -> Iterator[tuple[dict[str, Any], pd.DataFrame, dict[str, int]]]:
    """Names of a network without its fold, its predictions, and the fold of each subject."""
    own: dict[tuple, list] = {}
    for names, rows in results.frames:
        fold, rest = names["fold"], {name: value for name, value in names.items() if name != "fold"}
        group = fold if names["train"] != names["test"] else None
        own.setdefault((group, *rest.values()), []).append((rest, fold, rows))
    for parts in own.values():
        tested = [subject for *_, rows in parts for subject in rows["subject"].unique()]
        # Whom several folds tested cannot be calibrated as one person of one network.
        for together in [parts] if len(tested) == len(set(tested)) else [[part] for part in parts]:
            folds = {subject: fold for _, fold, rows in together for subject in rows["subject"].unique()}
            yield together[0][0], pd.concat([rows for *_, rows in together], ignore_index=True), folds


def _reason(row: Any) -> str:
    if row.n_short == 0:
        return row.reason
    if row.n_subjects == 0:
        return row.why
    left_out = f"subjects with fewer than {row.k + 1} samples left out: {row.n_short}"
    return "; ".join(filter(None, (left_out, row.reason)))


def _wide(results: Results, frame: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """One row per network and fit, one column per k; the error without calibration stands in each row."""
    rows = []
    for network, part in frame.groupby(NETWORK, sort=False):
        cells = {(row.fit, row.k): mean_text(row, "deg", np.nan, notes) for row in part.itertuples()}
        for fit in FITS:
            errors = {f"k = {k}": cells.get((fit if k else NONE, k), MISSING) for k in (0, *SAMPLES)}
            rows.append({"Model": results.row_name(*network), "Fit": fit, **errors})
    return pd.DataFrame(rows)


def _pair_text(train: str, test: str) -> str:
    return train if train == test else f"{train} → {test}"
