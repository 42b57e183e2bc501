"""Inference speed: what networks cost and how fast they are, at the published size and at this run's own."""

import pandas as pd

from gazepipe.common.markdown import Block, count, label
from gazepipe.evaluation.results import Results
from gazepipe.report import published
from gazepipe.report.figures import cost

COLUMNS = ["model", "method", "params", "macs", "runtime", "batch", "images_per_second", "latency_ms"]


def efficiency(results: Results) -> pd.DataFrame:
    """Cost and speed at the published size: COLUMNS, a row per network, runtime and batch size."""
    return _measured(results, "paper")


def efficiency_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per shape of network."""
    first = results.settings.networks[0]
    profile = results.profile(first.model, first.method)
    return [
        "## Inference speed",
        f"Eager PyTorch on {profile['machine']['cpu']}, {profile['threads']} thread(s), every core held while timing;"
        " median latency after warm-up. FLOPs are multiply-adds; params are those that take part in a forward pass."
        " KD and re-birth keep a network's size, so their rows share one measurement; a pruned network has no published"
        " size, only this run's.",
        "1×224×224, width 1:",
        _speed(results, frame),
    ]


def efficiency_run_size(results: Results) -> pd.DataFrame:
    """Cost and speed at this run's own size: COLUMNS."""
    return _measured(results, "run")


def efficiency_run_size_section(results: Results, frame: pd.DataFrame) -> list[Block]:
    """One row per shape of network, then the published figures."""
    settings = results.settings
    widths = ", ".join(f"{name} at width {entry.width:g}" for name, entry in settings.models.items())
    patch = next(iter(settings.datasets.values())).patch
    return [
        f"The same at this run's own size, 1×{patch.height}×{patch.width} ({widths}):",
        _speed(results, frame),
        *cost.pictures(results),
        published.NOTE,
        published.INFERENCE_SPEED,
    ]


def _measured(results: Results, size: str) -> pd.DataFrame:
    rows = []
    for network in results.settings.networks:
        profile = results.profile(network.model, network.method)["sizes"].get(size)
        if profile is None:
            continue  # a pruned network's shape is that of its run
        names = {"model": network.model, "method": network.method}
        rows += [{**names, "params": profile["params"], "macs": profile["macs"], **row} for row in profile["rows"]]
    return pd.DataFrame(rows)[COLUMNS]


def _speed(results: Results, frame: pd.DataFrame) -> pd.DataFrame:
    makers = {name: entry.profiled for name, entry in results.settings.methods.items()}
    rows: dict[str, dict] = {}
    for row in frame.itertuples():
        maker = makers[row.method]
        if maker != row.method and maker in makers:
            continue
        name = row.model if maker == next(iter(makers.values())) else label(row.model, maker)
        cells = rows.setdefault(name, {"Model": name, "Params": count(row.params), "FLOPs": count(row.macs)})
        cells[f"Throughput, batch {row.batch} (frames/s)"] = f"{row.images_per_second:.1f}"
        cells[f"Latency, batch {row.batch} (ms)"] = f"{row.latency_ms:.2f}"
    return pd.DataFrame(rows.values())
