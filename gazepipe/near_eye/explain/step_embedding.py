"""The part of `explain` about the embedding: importance, agreement between subjects, effective dimension and sweep.

Each step writes its files into `folder` and returns its part of explain.json.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from gazepipe.common.files import write_csv, write_json
from gazepipe.near_eye.explain import figures
from gazepipe.near_eye.explain.dimension import dimensions
from gazepipe.near_eye.explain.embedding import first_weight, sweep
from gazepipe.near_eye.explain.explained import UNIT, Embedded, evenly_spaced, rounded
from gazepipe.near_eye.explain.importance import (
    SCORES,
    TOP,
    head_jacobian,
    rank_correlation,
    ranking,
    ranks,
    stability,
)

STRONGEST = "active_subspace"
"""The score by which dimensions are ordered where there is but one order."""


def importance_step(embedded: Embedded, folder: Path) -> dict:
    """importance.csv and .png: how much each dimension matters, by five scores."""
    scores = embedded.scores
    table = pd.DataFrame({"dimension": np.arange(embedded.z.shape[1]), **scores})
    write_csv(folder / "importance.csv", table.assign(**{f"rank_{name}": ranks(scores[name]) for name in SCORES}))
    figures.importance_figure(scores, folder / "importance.png")
    alike = {name: rounded(rank_correlation(scores[STRONGEST], score)) for name, score in scores.items()}
    strongest = {name: ranking(score)[:5].tolist() for name, score in scores.items()}
    return {"strongest": strongest, f"spearman_with_{STRONGEST}": alike}


def stability_step(embedded: Embedded, folder: Path) -> dict:
    """stability.csv and .png: whether the subjects agree. Returns the mean agreement by score; {} of one subject."""
    own = {}
    for name in np.unique(embedded.subject):
        rows = np.flatnonzero(embedded.subject == name)
        own[str(name)] = embedded.scores_of(rows[evenly_spaced(len(rows))])
    pairs = stability(own)
    table = pd.DataFrame(pairs, columns=["importance", "a", "b", "spearman", "top_overlap"])
    write_csv(folder / "stability.csv", table)
    figures.stability_figure(pairs, min(TOP, embedded.z.shape[1]), "subjects", folder / "stability.png")
    means = table.groupby("importance", sort=False)[["spearman", "top_overlap"]].mean()
    return {name: {column: rounded(value) for column, value in row.items()} for name, row in means.iterrows()}


def dimension_step(embedded: Embedded, folder: Path) -> dict:
    """dimension.json and .png: how many dimensions it has in effect. Returns the estimates."""
    network, z = embedded.network, embedded.z[embedded.few]
    count = z.shape[1]
    found = dimensions(z.numpy(), head_jacobian(network.head, z), first_weight(network.model))
    write_json(folder / "dimension.json", {**found, "dimensions": count, "samples": len(z)})
    figures.dimension_figure(found, count, folder / "dimension.png")
    return found["estimates"]


def sweep_step(embedded: Embedded, folder: Path) -> dict:
    """sweep.csv and .png: where the gaze point goes while one dimension changes."""
    paths, lengths, ranges = sweep(embedded.network.head, embedded.z)
    importance = embedded.scores[STRONGEST]
    columns = {"dimension": np.arange(len(lengths)), "length_px": lengths, "importance": importance}
    columns |= {"low": ranges[:, 0], "high": ranges[:, 1]}
    for name, place in (("start", 0), ("end", -1)):
        columns |= {f"{name}_x": paths[:, place, 0], f"{name}_y": paths[:, place, 1]}
    write_csv(folder / "sweep.csv", pd.DataFrame(columns))
    figures.sweep_figure(paths, lengths, importance, embedded.target.numpy(), UNIT, folder / "sweep.png")
    return {
        "longest": ranking(lengths)[:5].tolist(),
        "longest_px": rounded(lengths.max()),
        "median_px": rounded(np.median(lengths)),
    }


EMBEDDING_STEPS = {
    "importance": importance_step,
    "stability": stability_step,
    "dimension": dimension_step,
    "sweep": sweep_step,
}
