"""The `profile` stage: what one network costs, at the paper's size and at the run's own."""

from pathlib import Path

import torch

from gazepipe.common.files import write_json
from gazepipe.common.machine import available_cores, machine, versions
from gazepipe.models.registry import build
from gazepipe.models.settings import Spec
from gazepipe.models.weights import read_metadata
from gazepipe.profiling.cost import count
from gazepipe.profiling.settings import ProfileSettings
from gazepipe.profiling.throughput import measure


def profile(settings: ProfileSettings, costs: Path, weights: Path | None = None) -> None:
    """Count parameters and multiply-adds of one network, and time it.

    Writes {"sizes": {name: {"model", "params", "macs", "rows"}}, "threads", "machine", "versions"} as JSON; of
    itracker4 "first_fc_params", too, those of its first fully connected layer. Timing needs the network's shape only,
    so its numbers are random; where `weights` are given, the shape is theirs, and the one size is "run". Rows are those
    of `throughput.measure`.
    """
    threads = settings.threads or available_cores()
    specs = {"run": read_metadata(weights)["model"]} if weights else settings.sizes
    sizes = {name: _measured(spec, settings, threads) for name, spec in specs.items()}
    write_json(costs, {"sizes": sizes, "threads": threads, "machine": machine(), "versions": versions()})


def _measured(spec: Spec, settings: ProfileSettings, threads: int) -> dict:
    torch.manual_seed(0)
    model = build(spec).eval()
    shape = tuple(spec["input"])
    rows = measure(model, shape, batches=tuple(settings.batches), seconds=settings.seconds, threads=threads)
    cost = count(model, shape)
    if spec["arch"] == "itracker4":
        cost["first_fc_params"] = sum(parameter.numel() for parameter in model.first.parameters())
    return {"model": spec, **cost, "rows": rows}
