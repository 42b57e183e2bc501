"""The stage `explain`: which inputs and dimensions of a near-eye network matter, and how narrow it may be."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gazepipe.common.files import atomic, write_json
from gazepipe.near_eye.explain.embedding import cached, tower_features, write_embedding
from gazepipe.near_eye.explain.explained import Embedded, Explained, open_explained, rounded
from gazepipe.near_eye.explain.step_embedding import EMBEDDING_STEPS
from gazepipe.near_eye.explain.step_heatmaps import heatmaps_step
from gazepipe.near_eye.explain.step_width import width_step
from gazepipe.near_eye.explain.width import Cached, Readout, error_px
from gazepipe.near_eye.settings import ExplainSettings
from gazepipe.training.device import make_deterministic, resolve_device


def explain(settings: ExplainSettings, weights: Path, store: Path, split: Path, folder: Path) -> None:
    """Explain a near-eye network: which inputs and dimensions matter, and how narrow it may be.

    Writes figures, CSVs, `width.json` and `explain.json` into `folder`, all at once. What is shown is read from the
    test subjects (at most MOST_SAMPLES of them); what is decided, the width and the dimensions to keep, from the
    training and validation subjects alone. Every file but explain.json, which holds times, is a pure function of the
    arguments on one machine. Raises UserError for weights of another network, a store of another image size, and bad
    files.
    """
    torch.set_num_threads(settings.threads)
    make_deterministic()
    device = resolve_device(settings.device)
    network = open_explained(settings, weights, store, split)
    with atomic(folder) as partial:
        partial.mkdir()
        write_json(partial / "explain.json", _explanation(network, device, partial))


def _explanation(network: Explained, device: torch.device, folder: Path) -> dict:
    """The content of explain.json; every other file is written on the way."""
    seconds: dict[str, float] = {}
    found: dict = {"samples": {role: len(some) for role, some in network.samples.items()}}
    network.model.to(device)
    with _timed(seconds, "features"):
        known = {role: _seen(network, role, device) for role in network.samples}
    with _timed(seconds, "heat maps"):
        found["heat maps"] = heatmaps_step(network, device, folder)
    network.model.to("cpu")
    found["test_error_px"] = rounded(error_px(Readout(network.model), known["test"], network.scale))
    embedded = Embedded(network, known["test"])
    with torch.no_grad():
        points = network.head(embedded.z)
    write_embedding(folder / "embedding.npz", embedded.z, points, network.samples["test"], network.store)
    for name, step in EMBEDDING_STEPS.items():
        with _timed(seconds, name):
            found[name] = step(embedded, folder)
    with _timed(seconds, "width"):
        found["width"] = width_step(network, known["train"], known["validation"], folder)
    seconds["total"] = sum(seconds.values())
    return {**found, "seconds": {name: round(value, 2) for name, value in seconds.items()}}


def _seen(network: Explained, role: str, device: torch.device) -> Cached:
    """A role's samples as the towers leave them."""
    samples = network.samples[role]
    features = tower_features(network.model, samples, network.mean, network.std, device, f"{role} features")
    return cached(features, samples, network.scale)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[step] = time.monotonic() - start
