"""Drawn and read near-eye samples a second: python benchmarks/bench_near_eye.py [subjects] [rows] [scale] [workers].

A sample is four eye images and a scene frame, PNG files included.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from gazepipe.datasets.layouts import near_eye
from gazepipe.drawn.draw import draw

ARGUMENTS = (("subjects", int, 8), ("images", int, 40), ("scale", float, 0.5), ("workers", int, os.cpu_count() or 1))


def report(name: str, count: int, seconds: float, processor: float) -> None:
    """Print samples a second by the clock, and a processor's milliseconds for one."""
    print(f"{name:<24} {count / seconds:6.1f} samples/s   {1000 * processor / count:6.1f} ms of one core each")


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Draw, then read at the size drawn."""
    given = dict(zip((name for name, _, _ in ARGUMENTS), sys.argv[1:], strict=False))
    block = {name: kind(given.get(name, default)) for name, kind, default in ARGUMENTS}
    workers, count = block.pop("workers"), block["subjects"] * block["images"]
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), processor_seconds()
        draw({"layout": "near-eye", **block}, Path(folder), workers)
        report(f"draw, {workers} workers", count, time.perf_counter() - start, processor_seconds() - before)
        height, width = round(576 * block["scale"]), round(720 * block["scale"])
        start, before = time.perf_counter(), processor_seconds()
        for subject in near_eye.subjects(folder):
            near_eye.prepare_subject(folder, subject, {"kind": "near-eye", "height": height, "width": width})
        report(f"read at {width}x{height}", count, time.perf_counter() - start, processor_seconds() - before)


if __name__ == "__main__":
    main()
