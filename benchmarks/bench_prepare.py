"""Prepare against plain versions, side by side: python benchmarks/bench_prepare.py

Columbia: 5184x3456 jpgs prepared as the workflow does (reduced-scale decoding, one process per core), against one
process that decodes them in full. MPIIFaceGaze: one 448x448 file against a bare copy of its bytes.
Store: random batches against np.memmap.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd

from gazepipe.common.machine import available_cores
from gazepipe.datasets.images import read_jpeg
from gazepipe.datasets.layouts import columbia
from gazepipe.datasets.store import open_store, write_store
from gazepipe.drawn.draw import draw

PATCH = {"kind": "face", "height": 224, "width": 224}
PICTURES = 60
ROWS = 1500
ROUNDS = 5
Sides = dict[str, float]
"""Milliseconds by what was timed: `plain` and `ours`."""


def measure(rounds: int = ROUNDS, pictures: int = PICTURES, rows: int = ROWS) -> pd.DataFrame:
    """A row for each comparison: milliseconds by the clock of the plain version and of ours, and plain / ours."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        on = f"{available_cores()} cores against one"
        found[f"Columbia, a picture of 5184x3456, {on}"] = columbia_times(folder / "columbia", rounds, pictures)
        found["MPIIFaceGaze, a row of 448x448, against a copy"] = mpiifacegaze_times(folder / "mpii", rounds, rows)
        found["Store, a random batch of 64, against np.memmap"] = store_times(folder / "store", rounds)
    return pd.DataFrame(
        [
            {"what": what, "plain_ms": t["plain"], "ours_ms": t["ours"], "ratio": t["plain"] / t["ours"]}
            for what, t in found.items()
        ]
    )


def _medians(times: dict[str, list[float]], count: int) -> Sides:
    return {name: 1000 * float(np.median(found)) / count for name, found in times.items()}


def columbia_times(folder: Path, rounds: int, count: int) -> Sides:
    """Of a picture, start-up of the processes included."""
    folder.mkdir()
    pictures = _full_size_pictures(folder, count)
    ours = [[*pictures[core :: available_cores()]] for core in range(available_cores())]
    times = {"plain": [], "ours": []}
    for _ in range(rounds):
        for kind, shares in (("plain", [pictures]), ("ours", ours)):
            start = time.perf_counter()
            running = [_worker(kind, share) for share in shares]
            assert all(process.wait() == 0 for process in running)
            times[kind].append(time.perf_counter() - start)
    return _medians(times, len(pictures))


def _full_size_pictures(folder: Path, count: int) -> list[str]:
    draw({"layout": "columbia", "subjects": 1, "scale": 0.25}, folder / "drawn", 1)
    (folder / "full").mkdir()
    for source in sorted((folder / "drawn/0001").iterdir())[:count]:
        large = cv2.resize(cv2.imread(str(source)), (5184, 3456), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "full" / source.name), large, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return [str(path) for path in sorted((folder / "full").iterdir())]


def _worker(kind: str, pictures: list[str]) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, __file__, kind, *pictures])


def _prepare(kind: str, pictures: list[str]) -> None:
    cv2.setNumThreads(1)
    for picture in map(Path, pictures):
        if kind == "plain":
            image = cv2.imread(str(picture), cv2.IMREAD_COLOR)
        else:
            image, _ = read_jpeg(picture, columbia._least_width(PATCH))
        columbia._sample(image, *columbia.parse_name(picture.name, "0001"), PATCH)


MPIIFACEGAZE = """
import sys, time
from gazepipe.datasets.layouts.mpiifacegaze import prepare_subject
start = time.perf_counter()
prepare_subject(sys.argv[1], "p00", {"kind": "face", "height": 224, "width": 224})
print(time.perf_counter() - start)
"""


def mpiifacegaze_times(folder: Path, rounds: int, rows: int) -> Sides:
    """Of a row: to prepare a file, and to copy its bytes, both warm."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    with h5py.File(folder / "p00.mat", "w") as file:
        data = file.create_dataset("Data/data", (rows, 3, 448, 448), np.uint8)
        for row in range(0, rows, 100):
            data[row : row + 100] = rng.integers(0, 256, (100, 3, 448, 448), np.uint8)
        file["Data/label"] = rng.uniform(-0.3, 0.3, (rows, 16)).astype(np.float32)
    times = {"plain": [], "ours": []}
    for _ in range(rounds):
        start = time.perf_counter()
        with open(folder / "p00.mat", "rb") as source, open(folder / "copy", "wb") as target:
            while block := source.read(1 << 20):
                target.write(block)
        times["plain"].append(time.perf_counter() - start)
        output = subprocess.check_output([sys.executable, "-c", MPIIFACEGAZE, str(folder)], text=True)
        times["ours"].append(float(output))
    return _medians(times, rows)


def store_times(folder: Path, rounds: int) -> Sides:
    """Of a random batch of 64, from np.memmap on a bare file and from a store of the same images."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4000, 1, 224, 224), np.uint8)
    zeros = np.zeros((len(images), 2), np.float32)
    frames = [f"{row:05d}" for row in range(len(images))]
    batch = {"image": images, "target": zeros, "head_pose": zeros, "subject": "s", "frame": frames}
    write_store(folder / "s.h5", [batch], {"dataset": "b", "patch": PATCH, "source": "none"})
    images.tofile(folder / "bare")
    sources = {"ours": open_store(folder / "s.h5").image, "plain": np.memmap(folder / "bare", np.uint8, "r")}
    sources["plain"] = sources["plain"].reshape(images.shape)
    picks = [np.sort(rng.choice(len(images), 64, replace=False)) for _ in range(200)]
    times = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            start = time.perf_counter()
            for pick in picks:
                np.ascontiguousarray(source[pick])
            times[name].append(time.perf_counter() - start)
    return _medians(times, len(picks))


def main() -> None:
    """Print all three."""
    print(measure().to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _prepare(sys.argv[1], sys.argv[2:])
    else:
        main()
