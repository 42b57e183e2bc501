"""The figure of a trace: a lane for each core, a bar for each job."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gazepipe.common.plotting import COLOURS, FAINT, INK, PALE, styled
from gazepipe.dag.trace import Trace

KINDS = {
    "data": ("fetch", "prepare_part", "prepare", "split", "sheet"),
    "training": ("train",),
    "prediction": ("predict", "predict_control", "robustness", "corruptions"),
    "timing": ("profile", "speed"),
    "explanation": ("explain", "explain_seeds"),
    "export": ("export", "export_errors"),
    "tables and page": ("tables", "page"),
}
"""What stages are for; those of no kind are `other`."""
OTHER = "other"
LOOKS = {
    "data": ("#62b6e8", ""),
    "training": ("#2166ac", ""),
    "prediction": ("#e0a92e", "////"),
    "timing": ("#222222", ""),
    "explanation": ("#8e2a6b", "...."),
    "export": ("#0b7a5c", "\\\\\\\\"),
    "tables and page": ("#cc5500", "xxxx"),
    OTHER: (COLOURS[7], "||||"),
}
"""Colour and hatching: kinds can be told apart in grey."""
BAR, BESIDE = 0.78, 0.3
"""Heights of bars, in lanes; of those of jobs that waited for no core."""


@styled
def draw(trace: Trace) -> Figure:
    """The lanes of a trace over the seconds since its first job began."""
    beside = any(not each.lanes for each in trace.placed)
    rows = trace.cores + (0.5 if beside else 0)
    figure = Figure(figsize=(11, 1.75 + 0.42 * rows), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    scale, unit = (60, "min") if trace.wall > 300 else (1, "s")
    used = _bars(axes, trace, scale)
    for lane in range(trace.cores):
        axes.text(1.006, lane, f"{trace.idle(lane):.0%}", transform=axes.get_yaxis_transform(), va="center", size=9)
    axes.text(1.006, -0.72, "idle", transform=axes.get_yaxis_transform(), va="bottom", size=9, color=FAINT)
    names = [str(lane + 1) for lane in range(trace.cores)] + ["none"] * beside
    axes.set_yticks([*range(trace.cores), *([trace.cores - 0.1] * beside)], names)
    axes.set_ylim(rows - 0.45, -0.65)
    axes.set_xlim(0, trace.wall / scale)
    axes.set_xlabel(f"time since the first job began ({unit})")
    axes.set_ylabel("core")
    axes.tick_params(axis="y", length=0)
    _head(axes, trace)
    handles = [Patch(facecolor=LOOKS[kind][0], edgecolor="white", hatch=LOOKS[kind][1], label=kind) for kind in used]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
    return figure


def _bars(axes, trace: Trace, scale: float) -> list[str]:
    """Draw the jobs; returns their kinds, in the order of KINDS."""
    for lane in range(trace.cores):
        axes.axhspan(lane - BAR / 2, lane + BAR / 2, color=PALE, alpha=0.45, linewidth=0, zorder=0)
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for each in trace.placed:
        bar = (each.job.began - trace.began) / scale, each.job.seconds / scale
        for lane in each.lanes or (-1,):
            found.setdefault((kind_of(each.job.stage), lane), []).append(bar)
    for (kind, lane), bars in found.items():
        colour, hatch = LOOKS[kind]
        place = (lane - BAR / 2, BAR) if lane >= 0 else (trace.cores - 0.1 - BESIDE / 2, BESIDE)
        edge = "white" if lane >= 0 else colour
        axes.broken_barh(bars, place, facecolor=colour, edgecolor=edge, hatch=hatch, linewidth=0.3)
    return [kind for kind in LOOKS if any(kind == each for each, _ in found)]


def kind_of(stage: str) -> str:
    """What a stage is for."""
    return next((kind for kind, stages in KINDS.items() if stage in stages), OTHER)


def _head(axes, trace: Trace) -> None:
    axes.set_title(
        f"{len(trace.placed)} jobs in {_time(trace.wall)} on {trace.cores} core{'s' * (trace.cores != 1)}: "
        f"{trace.idle_processor:.0%} idle",
        pad=22,
    )
    axes.text(
        0,
        1,
        f"{_time(trace.processor_seconds)} of processor time is {1 - trace.idle_processor:.0%} of time × cores. No job "
        f"had a core for {trace.idle_slots:.0%} of it; at the right for each core.",
        transform=axes.transAxes,
        va="bottom",
        size=9,
        color=INK,
    )


def _time(seconds: float) -> str:
    return f"{int(seconds // 60)} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.1f} s"
