"""Learning curves: the validation error of each epoch, over seeds and folds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gazepipe.common.markdown import picture
from gazepipe.common.plotting import Look
from gazepipe.evaluation.results import Results
from gazepipe.report.figures.compared import ERROR
from gazepipe.report.figures.panels import SMALL, blank, grid, key, legend, legend_height, looks_of, titles

COLUMNS = 3
MARKS = 6
"""Markers on a curve."""


def section(results: Results, frame: None) -> list[str]:
    """One figure per data set."""
    text = (
        "Validation error after each epoch: mean over seeds and folds, the band from the lowest to the highest run."
        " A method that starts from another one's weights starts low. Epochs that not every run has are left out."
    )
    found = ["### Learning curves"]
    for dataset in results.settings.datasets:
        found += picture(results.figure(f"learning-{dataset}"), f"Learning curves on {dataset}", f"{dataset}. {text}")
    return found


def draw(results: Results, frame: None) -> dict[str, Figure]:
    """The figure of each data set."""
    return {f"learning-{dataset}": learning(results, dataset) for dataset in results.settings.datasets}


def learning(results: Results, dataset: str) -> Figure:
    """One panel per model, one line per method."""
    history, looks = results.history[results.history["train"] == dataset], looks_of(results)
    models, methods = (list(dict.fromkeys(history[name])) for name in ("model", "method"))
    below = 0.62 + legend_height(len(methods))
    columns = min(COLUMNS, max(1, len(models)))
    figure, panels = grid(len(models), columns, 2.5, bottom=below, gaps=(0.45, 0.7), left=0.7)
    for axes, model in zip(panels, models, strict=False):
        own = history[history["model"] == model]
        for method, runs in own.groupby("method", sort=False):
            curve(axes, runs, looks[model, method])
        axes.set_xlabel("epoch", size=SMALL, labelpad=2)
        axes.tick_params(labelsize=SMALL)
    if not models:
        blank(panels[0], "nothing was trained")
        return figure
    titles(panels, models)
    highest = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set(xlim=(0.5, history["epoch"].max() + 0.5), ylim=(0, highest))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    panels[0].set_ylabel(f"validation error, {ERROR[results.settings.datasets[dataset].task]}", size=SMALL)
    legend(figure, [key(looks[models[0], method], method, fillstyle="full") for method in methods])
    return figure


def curve(axes: Axes, runs: pd.DataFrame, look: Look) -> None:
    """The mean of the runs (epoch, fold, seed, validation_error) and their range, at the epochs that all have."""
    by_run = runs.pivot_table(index="epoch", columns=["fold", "seed"], values="validation_error").dropna()
    epochs = by_run.index.to_numpy()
    axes.fill_between(epochs, by_run.min(axis=1), by_run.max(axis=1), color=look.colour, alpha=0.16, lw=0)
    every = max(1, int(np.ceil(len(epochs) / MARKS)))
    axes.plot(epochs, by_run.mean(axis=1), lw=1.6, ms=5, markevery=every, **{**look.of_marker, **look.of_line})
