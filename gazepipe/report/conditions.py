"""Error by the gaze's direction and by the head's, in bins: by the angle from the camera axis, and by yaw and pitch.

The error of a bin is the mean over subjects of their mean errors in it. Bins are half-open: 5-10° holds 5° and not 10°.
"""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from gazepipe.common.markdown import MISSING, Block, Notes
from gazepipe.common.plotting import FAINT, INK, PALE
from gazepipe.evaluation.means import INTERVAL, introduction, mean_rows, mean_text
from gazepipe.evaluation.metrics import HEAD, TRUE
from gazepipe.evaluation.results import Results, is_control
from gazepipe.geometry import angles_to_vector, angular_error_deg

PAIR = ["train", "test"]
NETWORK = ["model", "method"]
DIRECTIONS = {"gaze": TRUE["rad"], "head": HEAD}
WIDTHS = {"angle": 5, "yaw": 10, "pitch": 10}
"""Width of a bin in degrees: of the angle from the camera axis, of the yaw, of the pitch."""
ROUNDING_DEG = 1e-4
"""Angles are written in radians with six decimals; one that is meant to be 5° lies in the bin that begins there."""
BY = [*PAIR, *NETWORK, "by", "from_deg", "to_deg"]
COLUMNS = [*BY, "error_deg", "low_deg", "high_deg", "n_subjects", "n_seeds", "n_samples", "reason"]
NO_HEAD = "The predictions hold no head pose: the data sets give none, or an earlier gazepipe wrote the files."

CELLS_DEG, MOST_CELLS = (5, 10, 20), 13
"""Sides of a cell in the figure, and how many there may be along an axis before the next larger side is taken."""
FEW_SAMPLES, FEW_SUBJECTS = 5, 2
"""A cell with fewer of either is hatched."""
FEW_TEXT = f"fewer than {FEW_SAMPLES} samples or {FEW_SUBJECTS} subjects"
HATCH = "////"
LUMINANCE = (0.2126, 0.7152, 0.0722)
STRAIGHT = np.array([0.0, 0.0, -1.0])
"""Of a gaze into the camera."""
COLOURMAP = "YlGnBu"
"""Light to dark, in grey as well."""


def by_gaze(results: Results) -> pd.DataFrame:
    """Error in bins of the true gaze: COLUMNS.

    `by` says which angle the bins from_deg to to_deg are of: angle (from the camera axis), yaw or pitch. n_samples are
    those of one seed in all folds.
    """
    return _binned(results, "gaze")


def by_pose(results: Results) -> pd.DataFrame:
    """Error in bins of the head pose: as `by_gaze`; without rows where no file of predictions holds head poses."""
    return _binned(results, "head")


def by_gaze_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """Error by gaze angle of each data set's own networks, and the figures over gaze and head pose."""
    figures = [
        f"![Error over gaze and head pose, {dataset}]({results.figure(f'gaze_pose-{dataset}')})"
        for dataset in results.settings.datasets
    ]
    return [*_section(results, "Error by gaze angle", "true gaze", frame), *figures]


def by_pose_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """Error by head pose of each data set's own networks."""
    if frame.empty:
        return ["## Error by head pose", NO_HEAD]
    return _section(results, "Error by head pose", "direction of the head", frame)


def draw(results: Results, frame: pd.DataFrame) -> dict[str, Figure]:
    """Error over the gaze x head-pose plane, of the best network of each data set: one panel for yaw, one for pitch."""
    return {f"gaze_pose-{dataset}": _planes(results, dataset) for dataset in results.settings.datasets}


def _binned(results: Results, direction: str) -> pd.DataFrame:
    rows = _directed(results, direction)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    cells = pd.concat([_cells(rows, by, width) for by, width in WIDTHS.items()], ignore_index=True)
    cells = cells.join(pd.DataFrame([names for names, _ in results.frames]), on="file")
    found = mean_rows(cells, BY, "deg")
    counts = cells.groupby([*BY, "subject"])["samples"].max().groupby(BY).sum().rename("n_samples").reset_index()
    first = cells.groupby([*PAIR, *NETWORK])["file"].min().rename("first").reset_index()
    found = found.merge(counts, on=BY).merge(first, on=[*PAIR, *NETWORK])
    kind = found["by"].map({by: place for place, by in enumerate(WIDTHS)})
    return found.assign(kind=kind).sort_values(["first", "kind", "from_deg"], ignore_index=True)[COLUMNS]


def _directed(results: Results, direction: str) -> pd.DataFrame:
    """The rows of all files in which the gaze's or the head's direction is known: the place of the file, subject,
    error, and the angles of WIDTHS in degrees.
    """
    columns = DIRECTIONS[direction]
    parts = [
        rows[["subject", "error", *columns]].assign(file=place)
        for place, (_, rows) in enumerate(results.frames)
        if set(columns) <= set(rows.columns)
    ]
    if not parts:
        return pd.DataFrame(columns=["file", "subject", "error", *WIDTHS])
    rows = pd.concat(parts, ignore_index=True).dropna(subset=columns)
    angles = rows[columns].to_numpy(np.float64)
    pitch, yaw = np.degrees(angles).T
    off_axis = angular_error_deg(angles_to_vector(angles), STRAIGHT)
    return rows[["file", "subject", "error"]].assign(angle=off_axis, yaw=yaw, pitch=pitch)


def _cells(rows: pd.DataFrame, by: str, width: int) -> pd.DataFrame:
    """Mean error and samples of each subject in each bin of each file."""
    start = _bins(rows[by], width).rename("from_deg")
    grouped = rows["error"].groupby([rows["file"], rows["subject"], start])
    cells = grouped.agg(error="mean", samples="size").reset_index()
    return cells.assign(by=by, to_deg=cells["from_deg"] + width)


def _bins(degrees: pd.Series, width: int) -> pd.Series:
    """Where the bin of each angle begins."""
    return (np.floor((degrees + ROUNDING_DEG) / width) * width).astype(int)


def _section(results: Results, title: str, what: str, frame: pd.DataFrame) -> list[Block]:
    blocks: list[Block] = [
        f"## {title}",
        f"Mean angular error in degrees in bins of the angle between the {what} and the camera axis, {INTERVAL}, of"
        " networks tested on subjects of their own data set. The first row counts what is in a bin. Other data sets"
        " are in the CSV.",
        *introduction(frame, set()),
    ]
    own = frame[frame["train"] == frame["test"]]
    for dataset, rows in own.groupby("test", sort=False):
        best, notes = _best(results, dataset), Notes()
        blocks += [f"**{dataset}**", _by_angle(results, rows[rows["by"] == "angle"], notes), *notes.paragraphs()]
        if best is not None:
            mine, notes = rows[(rows[NETWORK] == list(best)).all(axis=1) & (rows["by"] != "angle")], Notes()
            said = f"**{dataset}**, {results.row_name(*best)}, by yaw and pitch"
            blocks += [said, _by_axis(mine, notes), *notes.paragraphs()]
    return blocks


def _by_angle(results: Results, rows: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """A row for each network, a column for each bin."""
    first = rows[(rows[NETWORK] == rows[NETWORK].iloc[0]).all(axis=1)]
    shown = [{"Model": "*subjects, samples*", **{_bin(row): _counts(row) for row in first.itertuples()}}]
    for network, part in rows.groupby(NETWORK, sort=False):
        cells = {_bin(row): mean_text(row, "deg", np.nan, notes) for row in part.itertuples()}
        shown.append({"Model": results.row_name(*network), **cells})
    return pd.DataFrame(shown).fillna(MISSING)


def _by_axis(rows: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """A row for yaw and one for pitch, each with its counts below, and a column for each bin."""
    bins = {_bin(row): MISSING for row in rows.sort_values("from_deg").itertuples()}
    shown = []
    for by, part in rows.groupby("by", sort=False):
        cells = {_bin(row): mean_text(row, "deg", np.nan, notes) for row in part.itertuples()}
        shown.append({"Angle": by, **bins, **cells})
        shown.append({"Angle": "*subjects, samples*", **bins, **{_bin(row): _counts(row) for row in part.itertuples()}})
    return pd.DataFrame(shown)


def _bin(row: Any) -> str:
    return f"{row.from_deg} to {row.to_deg}°".replace("-", "−")


def _counts(row: Any) -> str:
    return f"{row.n_subjects}, {row.n_samples:,}"


def _best(results: Results, dataset: str) -> tuple[str, str] | None:
    """The network with the lowest error on its own data set, controls left out; None where there is no other."""
    own = results.errors[(results.errors[PAIR] == dataset).all(axis=1)]
    means = own.groupby([*NETWORK, "subject"], sort=False)["error"].mean().groupby(NETWORK, sort=False).mean()
    networks = [network for network in means.index if not is_control(results.settings, *network)]
    return min(networks, key=means.get) if networks else None


def _planes(results: Results, dataset: str) -> Figure:
    best, figure = _best(results, dataset), Figure(figsize=(11.2, 5.2), layout="constrained")
    figure.suptitle(f"{dataset}: {results.row_name(*best)}" if best else dataset, x=0.01, ha="left", weight="bold")
    panels = figure.subplots(1, 2)
    rows = _plane_rows(results, dataset, best)
    cells = {axis: _plane(rows, axis) for axis in ("yaw", "pitch")}
    shown = pd.concat([plane.loc[~plane["few"], "error"] for plane in cells.values()])
    if shown.empty:
        shown = pd.concat([plane["error"] for plane in cells.values()])
    scale = Normalize(*(shown.min(), shown.max()) if len(shown) else (0, 1))
    for axes, (axis, plane) in zip(panels, cells.items(), strict=True):
        _panel(axes, axis, plane, scale)
    if len(shown):
        colours = ScalarMappable(scale, COLOURMAP)
        figure.colorbar(colours, ax=list(panels), label="error, degrees", pad=0.01, fraction=0.04)
        few = Patch(facecolor="white", edgecolor=FAINT, hatch=HATCH, lw=0, label=FEW_TEXT)
        figure.legend(handles=[few], loc="outside lower left")
    return figure


def _plane_rows(results: Results, dataset: str, best: tuple[str, str] | None) -> pd.DataFrame:
    """The rows of the best network on its own data set with a known head pose, and its seed and fold."""
    wanted = [*NETWORK, *PAIR, "seed", "fold"]
    parts = [
        rows.assign(**{name: names[name] for name in wanted})
        for names, rows in results.frames
        if (names["model"], names["method"]) == best
        and names["train"] == names["test"] == dataset
        and set(HEAD) <= set(rows.columns)
    ]
    angles = [*TRUE["rad"], *HEAD]
    return (
        pd.concat(parts).dropna(subset=HEAD) if parts else pd.DataFrame(columns=["subject", "seed", "error", *angles])
    )


def _plane(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Cells of a panel: gaze and head, where the cell begins, gaze_side and head_side, all in degrees; error, the mean
    over subjects of their mean errors; few, whether it holds few samples (of one seed) or subjects.
    """
    placed, sides = rows[["subject", "seed", "error"]], {}
    for name, column in (("gaze", axis), ("head", f"head_{axis}")):
        degrees = np.degrees(rows[column].astype(float))
        extent = np.ptp(degrees) if len(degrees) else 0
        sides[f"{name}_side"] = side = next((s for s in CELLS_DEG if extent / s <= MOST_CELLS), CELLS_DEG[-1])
        placed = placed.assign(**{name: _bins(degrees, side)})
    of_subject = placed.groupby(["gaze", "head", "subject"]).agg(
        error=("error", "mean"), rows=("error", "size"), seeds=("seed", "nunique")
    )
    of_subject["samples"] = of_subject["rows"] / of_subject["seeds"]
    cells = of_subject.groupby(["gaze", "head"]).agg(
        error=("error", "mean"), samples=("samples", "sum"), subjects=("samples", "size")
    )
    few = (cells["samples"] < FEW_SAMPLES) | (cells["subjects"] < FEW_SUBJECTS)
    return cells.assign(**sides, few=few).reset_index()


def _panel(axes: Axes, axis: str, plane: pd.DataFrame, scale: Normalize) -> None:
    axes.set(xlabel=f"gaze {axis}, degrees", ylabel=f"head {axis}, degrees")
    if plane.empty:
        axes.text(0.5, 0.5, "no head pose in the predictions", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    for cell in plane.itertuples():
        _cell(axes, cell, matplotlib.colormaps[COLOURMAP](scale(cell.error)))
    for name, along in (("gaze", axes.xaxis), ("head", axes.yaxis)):
        side = int(plane[f"{name}_side"].iloc[0])
        edges = np.arange(plane[name].min(), plane[name].max() + side + 1, side)
        along.set_ticks(edges[:: 1 + len(edges) // 10])
        (axes.set_xlim if name == "gaze" else axes.set_ylim)(edges[0], edges[-1])


def _cell(axes: Axes, cell: Any, colour: tuple[float, ...]) -> None:
    """A cell in its colour with its error, or hatched where it holds few samples."""
    look = {"fc": "white", "hatch": HATCH} if cell.few else {"fc": colour}
    axes.add_patch(Rectangle((cell.gaze, cell.head), cell.gaze_side, cell.head_side, ec=PALE, lw=0.8, **look))
    if not cell.few:
        ink = "white" if np.dot(colour[:3], LUMINANCE) < 0.5 else INK
        middle = cell.gaze + cell.gaze_side / 2, cell.head + cell.head_side / 2
        axes.text(*middle, f"{cell.error:.1f}", ha="center", va="center", size=8.5, color=ink)
