"""Scores of filters against plain loops over filters, side by side: python benchmarks/bench_scores.py [--rounds 5]

The layers are the 3x3 convolutions of resnet18 at width 1 with random weights; the scores are those by which re-birth
and structural pruning choose filters. Written is one row for each score and shape of layer: the median milliseconds of
processor time, the median, lowest and highest ratio over the rounds, and the largest difference of a score.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gazepipe.methods.rebirth import redundancy
from gazepipe.methods.structural.criteria import distance_sum
from gazepipe.models.registry import build
from gazepipe.training.losses import dense_3x3

REPOSITORY = Path(__file__).resolve().parents[1]
SPEC = {"arch": "resnet18", "width": 1.0, "input": [1, 36, 112]}


def looped_redundancy(filters: torch.Tensor) -> list[float]:
    """The mean |cosine| of each filter [n, fan_in] with the others, filter by filter."""
    return [
        sum(
            abs(float(a @ b)) / math.sqrt(float(a @ a) * float(b @ b))
            for other, b in enumerate(filters)
            if other != number
        )
        / (len(filters) - 1)
        for number, a in enumerate(filters)
    ]


def looped_distance_sum(filters: torch.Tensor) -> list[float]:
    """The sum of the distances of each filter [n, fan_in] to all, filter by filter."""
    return [sum(math.sqrt(float((a - b) @ (a - b))) for b in filters) for a in filters]


SCORES = {
    "redundancy": (redundancy, looped_redundancy),
    "geometric_median": (distance_sum, looped_distance_sum),
}


def measure(rounds: int = 5, largest: int = 128) -> pd.DataFrame:
    """One row for each score and shape of layer, of at most `largest` filters."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = {layer.weight.shape: layer.weight.detach() for layer in dense_3x3(build(SPEC))}
    rows = []
    for name, (ours, loops) in SCORES.items():
        for shape, weight in layers.items():
            if len(weight) > largest:
                continue
            filters = weight.flatten(1).double()
            found, expected = ours(filters), torch.tensor(loops(filters), dtype=torch.float64)
            times = np.array([[_seconds(ours, filters, 20), _seconds(loops, filters, 1)] for _ in range(rounds)])
            ratios = times[:, 1] / times[:, 0]
            row = {"score": name, "filters": shape[0], "fan_in": filters.shape[1]}
            row |= {"ms": 1000 * np.median(times[:, 0]), "loops_ms": 1000 * np.median(times[:, 1])}
            row |= {"ratio": np.median(ratios), "ratio_low": ratios.min(), "ratio_high": ratios.max()}
            rows.append({**row, "largest_difference": (found - expected).abs().max().item()})
    return pd.DataFrame(rows)


def _seconds(score: Callable, filters: torch.Tensor, repeats: int) -> float:
    began = time.process_time()
    for _ in range(repeats):
        score(filters)
    return (time.process_time() - began) / repeats


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--largest", type=int, default=512, help="filters of the largest layer")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/results/speed-scores.csv")
    args = parser.parse_args()
    found = measure(args.rounds, args.largest)
    print(found.to_string(index=False, float_format="{:.3g}".format))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(args.out, index=False, lineterminator="\n", float_format="%.4g")


if __name__ == "__main__":
    main()
