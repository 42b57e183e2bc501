"""How alike a network's filters are: before re-birth, directly after it, at the end, and without it."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from safetensors import SafetensorError, safe_open

from gazepipe.common.files import read_json
from gazepipe.common.markdown import label, picture
from gazepipe.common.plotting import Look, looks
from gazepipe.errors import UserError
from gazepipe.evaluation.results import Results
from gazepipe.report.figures.panels import SMALL, blank, grid, key, legend, legend_height, note, titles

LIMITS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""|cosine| above which pairs are counted: those that re-birth writes down (`gazepipe.methods.rebirth`)."""
BEFORE, AFTER, END, CONTROL = "before", "directly after", "at the end", "control at the end"
LOOKS = looks([END, BEFORE, CONTROL, AFTER])

Likeness = dict[str, dict[str, float]]
"""By layer, the mean |cosine| of its pairs of filters ("mean"), and the share of pairs above each of LIMITS ("0.1")."""


def section(results: Results, frame: None) -> list[str]:
    """The figure and how it is read."""
    text = (
        "How alike the filters of a layer are, |cosine| of each pair, in the first run of each network with re-birth."
        " Left: share of all pairs that are more alike than a value. Right: mean of each layer, from the first to the"
        " last. *Before* is the network that re-birth starts from, *directly after* the last generation's re-birth"
        " before it trains on, *control* the same training without re-birth, where it was run."
    )
    return ["### Filters before and after re-birth", *picture(results.figure("filters"), "Likeness of filters", text)]


def draw(results: Results, frame: None) -> dict[str, Figure]:
    """One row of two panels for each network with re-birth."""
    chosen = [
        (dataset, network.model, network.method)
        for dataset in results.settings.datasets
        for network in results.settings.networks
        if results.settings.methods[network.method].rebirth
    ]
    if not chosen:
        return {"filters": note("No network of this run has filters that start again.")}
    found = [measured(results, *each) for each in chosen]
    names = [name for name in (BEFORE, AFTER, END, CONTROL) if any(name in each for each in found)]
    figure, panels = grid(2 * len(chosen), 2, 1.9, left=0.95, bottom=0.6 + legend_height(len(names)), gaps=(0.65, 0.68))
    titles(panels[::2], [f"{label(model, method)}, {dataset}" for dataset, model, method in chosen])
    for number in range(len(chosen)):
        shares, means = panels[2 * number : 2 * number + 2]
        if BEFORE not in found[number]:
            blank(shares, "the run wrote nothing down about its re-birth: train it again")
            means.set_axis_off()
            continue
        for name, layers in found[number].items():
            _shares(shares, layers, LOOKS[name])
            _means(means, layers, LOOKS[name])
        means.set_ylim(0, 1.06 * max(means.get_ylim()[1], 0.01))
        shares.set_xlabel("|cosine| of two filters", size=SMALL, labelpad=2)
        shares.set_ylabel("pairs above", size=SMALL, labelpad=2)
        means.set_xlabel("layer", size=SMALL, labelpad=2)
        means.set_ylabel("mean |cosine|", size=SMALL)
    if names:
        legend(figure, [key(LOOKS[name], name) for name in names])
    return {"filters": figure}


def measured(results: Results, dataset: str, model: str, method: str) -> dict[str, Likeness]:
    """The likeness of the filters of a network's first run, by BEFORE, AFTER, END and, if it was run, CONTROL; nothing
    where the run wrote nothing down.
    """
    settings = results.settings
    run = {"dataset": dataset, "model": model, "fold": settings.datasets[dataset].folds[0], "seed": settings.seeds[0]}
    cycles = read_json(results.file("train", "facts", method=method, **run)).get("cycles", [])
    told = [cycle["rebirth"]["layers"] for cycle in cycles if "rebirth" in cycle]
    if not told:
        return {}
    layers = [layer["name"] for layer in told[0]]

    def weights(name: str) -> Likeness:
        return likeness(results.file("train", "weights", method=name, **run), layers)

    found = {
        BEFORE: {layer["name"]: layer["before"] for layer in told[0]},
        AFTER: {layer["name"]: layer["after"] for layer in told[-1]},
        END: weights(method),
    }
    control = settings.methods[method].control
    selected = {(network.model, network.method) for network in settings.networks}
    return found | ({CONTROL: weights(control)} if (model, control) in selected else {})


def likeness(path: Path, layers: list[str]) -> Likeness:
    """The likeness of the filters of some layers of a weights file, which is read without torch."""
    found = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for layer in layers:
                rows = file.get_tensor(f"{layer}.weight")
                found[layer] = of_filters(rows.reshape(len(rows), -1))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}); delete it, train again") from None
    return found


def of_filters(filters: np.ndarray) -> dict[str, float]:
    """The likeness of filters [n, fan_in]; n > 1. A filter of zeros is like none."""
    filters = filters.astype(np.float64)
    lengths = np.linalg.norm(filters, axis=1, keepdims=True)
    unit = np.divide(filters, lengths, out=np.zeros_like(filters), where=lengths > 0)
    pairs = np.abs(unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return {"mean": float(pairs.mean()), **{f"{limit:g}": float((pairs > limit).mean()) for limit in LIMITS}}


def _shares(axes: Axes, layers: Likeness, look: Look) -> None:
    """The mean over layers, each of the same weight, of the share of pairs above each limit."""
    shares = np.array([[layer[f"{limit:g}"] for limit in LIMITS] for layer in layers.values()]).mean(axis=0)
    axes.plot(LIMITS, np.where(shares > 0, shares, np.nan), lw=1.6, marker=look.marker, ms=4.5, **look.of_line)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=SMALL)


def _means(axes: Axes, layers: Likeness, look: Look) -> None:
    means = [layer["mean"] for layer in layers.values()]
    axes.plot(range(1, len(means) + 1), means, lw=1.2, marker=look.marker, ms=4.5, **look.of_line)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=SMALL)
