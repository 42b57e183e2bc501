"""Drawn and read near-eye samples a second: python benchmarks/bench_near_eye.py [subjects] [rows] [scale] [workers].

A sample is four eye images and a scene frame, PNG files included.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from gazepipe.common.machine import available_cores
from gazepipe.datasets.layouts import near_eye
from gazepipe.drawn.draw import draw

KINDS = (int, int, float, int)


def measure(
    subjects: int = 8, images: int = 40, scale: float = 0.5, workers: int | None = None, rounds: int = 5
) -> pd.DataFrame:
    """Samples a second by the clock and milliseconds of a core for one, of drawing and of reading at the size drawn:
    medians over rounds."""
    workers = workers or available_cores()
    height, width = round(576 * scale), round(720 * scale)
    patch = {"kind": "near-eye", "height": height, "width": width}
    asked = {"layout": "near-eye", "subjects": subjects, "images": images, "scale": scale}

    def read(folder: Path) -> None:
        for subject in near_eye.subjects(folder):
            near_eye.prepare_subject(folder, subject, patch)

    rows = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows.append(
                {"what": f"draw, {workers} workers", **_timed(lambda place=folder: draw(asked, place, workers))}
            )
            rows.append({"what": f"read at {width}x{height}", **_timed(lambda place=folder: read(place))})
    taken = pd.DataFrame(rows).groupby("what", sort=False).median() / (subjects * images)
    found = {"samples_per_second": 1 / taken.seconds, "core_ms": 1000 * taken.processor}
    return pd.DataFrame(found).reset_index()


def _timed(work: Callable[[], None]) -> dict[str, float]:
    """Seconds by the clock, and of the processors."""
    start, before = time.perf_counter(), _processor_seconds()
    work()
    return {"seconds": time.perf_counter() - start, "processor": _processor_seconds() - before}


def _processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Draw, then read."""
    given = [kind(text) for kind, text in zip(KINDS, sys.argv[1:], strict=False)]
    print(measure(*given).to_string(index=False, float_format="%.1f"))


if __name__ == "__main__":
    main()
