"""The part of `explain` about the images: heat maps of a few test samples, and their sanity check."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gazepipe.common.files import write_csv
from gazepipe.near_eye.explain import heatmaps, map_figures
from gazepipe.near_eye.explain.explained import UNIT, Explained, rounded
from gazepipe.training.samples import Samples, normalised, to_unit

SANITY_SAMPLES = 2


def heatmaps_step(network: Explained, device: torch.device, folder: Path) -> dict:
    """Write heatmaps.csv and .png and sanity.csv and .png; returns their part of explain.json."""
    rows = network.samples["test"].rows[of_different_subjects(network.samples["test"], network.settings.samples)]
    images = np.ascontiguousarray(network.store.image[rows])
    x = normalised(to_unit(torch.from_numpy(images), device), network.mean, network.std)
    tapped = heatmaps.Tapped(network.model, network.scale.to(device))
    signed = {method: heatmaps.attributions(tapped, x, method) for method in heatmaps.METHODS}
    maps = {method: heatmaps.strength(attribution) for method, attribution in signed.items()}
    table = _table(network, rows, maps)
    write_csv(folder / "heatmaps.csv", table)
    _draw(network, tapped, rows, images, x, maps, folder / "heatmaps.png")
    shares = table.groupby(["method", "view"], sort=False)["share"].mean().unstack()
    return {
        "view_shares": {method: [rounded(share) for share in row] for method, row in shares.iterrows()},
        "completeness_px": rounded(heatmaps.completeness_px(tapped, x, signed["integrated_gradients"])),
        "sanity": _sanity(network, tapped, x[:SANITY_SAMPLES], folder),
    }


def _table(network: Explained, rows: np.ndarray, maps: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per method, sample (row of the store) and view."""
    described = []
    for method, some in maps.items():
        for found in heatmaps.describe(some):
            row = rows[found.pop("number")]
            names = {"sample": row, "subject": network.store.subject[row], "frame": network.store.frame[row]}
            described.append({**names, "method": method, **found})
    return pd.DataFrame(described)


def _draw(
    network: Explained,
    tapped: heatmaps.Tapped,
    rows: np.ndarray,
    images: np.ndarray,
    x: torch.Tensor,
    maps: dict[str, np.ndarray],
    out: Path,
) -> None:
    store = network.store
    with torch.no_grad():
        off = torch.linalg.vector_norm(tapped(x).cpu() - torch.from_numpy(store.target[rows]), dim=1)
    names = [f"{store.subject[row]} / {store.frame[row]}" for row in rows]
    map_figures.heatmap_figure(images, maps, names, [f"off by {far:.1f} {UNIT}" for far in off.tolist()], out)


def _sanity(network: Explained, tapped: heatmaps.Tapped, x: torch.Tensor, folder: Path) -> dict:
    rows, maps = heatmaps.sanity(tapped, network.spec, x, network.settings.seed)
    write_csv(folder / "sanity.csv", pd.DataFrame(rows))
    map_figures.sanity_figure(rows, maps, 0, folder / "sanity.png")
    last = [row for row in rows if row["step"] == heatmaps.LAST_STEP]
    return {
        "all_random": {row["method"]: {name: rounded(row[name]) for name in ("signed", "strength")} for row in last},
        "limit": heatmaps.SANITY_LIMIT,
        "passed": heatmaps.verdict(rows),
        "verdict": _in_words(last, heatmaps.verdict(rows)),
    }


def _in_words(last: list[dict], passed: dict[str, bool]) -> str:
    failed = [row["method"] for row in last if not passed[row["method"]]]
    alike = [row["method"] for row in last if row["strength"] >= heatmaps.SANITY_LIMIT]
    told = "attributions of every method change when all weights are random"
    if failed:
        told = f"do not trust {', '.join(failed)}: it hardly changes when all weights are random"
    if alike:
        told += f"; without their sign, maps of {', '.join(alike)} mostly show the image and the architecture"
    return told


def of_different_subjects(samples: Samples, count: int) -> np.ndarray:
    """Positions of `count` samples: the middle one of each subject, then further ones, evenly spaced."""
    of_subjects = [np.flatnonzero(samples.subject == name) for name in np.unique(samples.subject)]
    chosen = [rows[len(rows) // 2] for rows in of_subjects][:count]
    rest = np.setdiff1d(np.arange(len(samples)), chosen)
    more = min(count - len(chosen), len(rest))
    spaced = ((np.arange(more) + 0.5) * len(rest) / max(more, 1)).astype(int)
    return np.sort(np.concatenate([chosen, rest[spaced]]).astype(int))
