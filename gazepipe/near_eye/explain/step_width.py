"""The part of `explain` about the first layer's width, decided on training and validation subjects alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gazepipe.common.files import write_csv, write_json
from gazepipe.near_eye.explain import figures
from gazepipe.near_eye.explain.explained import UNIT, Explained, rounded
from gazepipe.near_eye.explain.importance import ranking
from gazepipe.near_eye.explain.width import (
    KINDS,
    Cached,
    Readout,
    best_importance,
    checked_widths,
    choose_width,
    error_curve,
    error_px,
)


def width_step(network: Explained, train: Cached, validation: Cached, folder: Path) -> dict:
    """Write width.json, width.csv and width.png; returns what of it belongs in explain.json."""
    settings, readout = network.settings, Readout(network.model)
    with torch.no_grad():
        z = readout.embed(train.features)
    scores = network.importances(z, train.target * network.scale)
    widths = checked_widths(settings.widths, z.shape[1])
    known = train, validation, network.scale, widths
    best, tried = best_importance(network.model, network.spec, scores, *known)
    order = ranking(scores[best])
    curve = error_curve(network.model, network.spec, order, *known, settings.recover_epochs, settings.seed)
    full = error_px(readout, validation, network.scale)
    chosen = {kind: choose_width(curve, kind, full, settings.tolerance) for kind in KINDS}
    figures.width_figure(curve, full, settings.tolerance, chosen, UNIT, folder / "width.png")
    rows = [row | {name: rounded(row[name]) for name in ("before_px", "after_px")} for row in curve]
    write_csv(folder / "width.csv", pd.DataFrame(rows))
    summary = {
        **chosen,
        "tolerance": settings.tolerance,
        "importance": best,
        "full_error_px": rounded(full),
        "error_px": {row["kind"]: row["after_px"] for row in rows if row["width"] == chosen[row["kind"]]},
    }
    beside = {
        "keep": np.sort(order[: chosen["dropped"]]).tolist(),
        "order": order.tolist(),
        "curve": rows,
        "widths": widths,
        "dropped_px": {name: [rounded(error) for error in errors] for name, errors in tried.items()},
    }
    write_json(folder / "width.json", summary | beside)
    return summary
