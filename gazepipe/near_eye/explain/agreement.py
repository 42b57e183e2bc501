"""The stage `explain_seeds`: how far the explanations of a network's seeds agree."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from gazepipe.common.files import atomic, read_json, write_csv
from gazepipe.near_eye.explain import figures
from gazepipe.near_eye.explain.importance import SCORES, rank_correlation, top_overlap
from gazepipe.near_eye.settings import AgreementSettings


def explain_seeds(settings: AgreementSettings, explanations: list[Path], folder: Path) -> None:
    """Compare the explanations of one network over its seeds.

    `explanations` are the files explain.json of `explain`, in whose folders lie the others. `folder` receives runs.csv,
    runs_dimension.csv and runs.png. Rows of runs.csv: "importance", "a", "b" (folders), "spearman", "top_overlap" of
    the rankings, and "spectrum", the correlation of the sorted shares. Dimensions of networks that were initialised
    differently have nothing to do with each other: between seeds only "spectrum" and the effective dimensions mean
    something; rankings may be compared between networks that were fine-tuned from one. Runs of different widths are
    compared over the shorter spectrum.
    """
    runs = [path.parent for path in explanations]
    scores = {str(run): _scores(run) for run in runs}
    rows = [
        {"importance": name, "a": a, "b": b, **_compared(scores[a][name], scores[b][name])}
        for a, b in combinations(scores, 2)
        for name in SCORES
    ]
    estimates = [{"run": str(run), **read_json(run / "dimension.json")["estimates"]} for run in runs]
    with atomic(folder) as partial:
        partial.mkdir()
        write_csv(partial / "runs.csv", pd.DataFrame(rows))
        write_csv(partial / "runs_dimension.csv", pd.DataFrame(estimates))
        figures.runs_figure(_shortly_named(scores), partial / "runs.png")


def _scores(run: Path) -> dict[str, np.ndarray]:
    table = pd.read_csv(run / "importance.csv")
    return {name: table[name].to_numpy() for name in SCORES}


def _shortly_named(scores: dict[str, dict]) -> dict[str, dict]:
    """By the last folder of each run, where these differ."""
    short = {Path(run).name: found for run, found in scores.items()}
    return short if len(short) == len(scores) else scores


def _compared(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    same = len(a) == len(b)
    held = min(len(a), len(b))
    spectra = [np.sort(score)[::-1][:held] for score in (a, b)]
    return {
        "spearman": rank_correlation(a, b) if same else float("nan"),
        "top_overlap": top_overlap(a, b) if same else float("nan"),
        "spectrum": float(np.corrcoef(*spectra)[0, 1]) if min(map(np.ptp, spectra)) > 0 else 0.0,
    }
