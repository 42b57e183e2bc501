"""Prepare against plain versions, side by side: python benchmarks/bench_prepare.py

Columbia: 5184x3456 jpgs prepared as the workflow does (reduced-scale decoding, one process per core), against one
process that decodes them in full. MPIIFaceGaze: one 448x448 file against a bare copy of its bytes, and peak memory.
Store: random batches against np.memmap.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import h5py
import numpy as np

from gazepipe.common.machine import available_cores
from gazepipe.datasets.images import read_jpeg
from gazepipe.datasets.layouts import columbia
from gazepipe.datasets.store import open_store
from gazepipe.drawn.draw import draw

PATCH = {"kind": "face", "height": 224, "width": 224}
PICTURES = 60
ROWS = 1500
ROUNDS = 3


def columbia_ratio(folder: Path) -> None:
    """Time per picture of the plain version over ours."""
    pictures = _full_size_pictures(folder)
    ours = [[*pictures[core :: available_cores()]] for core in range(available_cores())]
    times = {"plain": [], "ours": []}
    for _ in range(ROUNDS):
        for kind, shares in (("plain", [pictures]), ("ours", ours)):
            start = time.perf_counter()
            running = [_worker(kind, share) for share in shares]
            assert all(process.wait() == 0 for process in running)
            times[kind].append((time.perf_counter() - start) / len(pictures))
    plain, mine = (float(np.median(times[kind])) for kind in ("plain", "ours"))
    print(
        f"columbia 5184x3456: plain {1000 * plain:.0f} ms, ours {1000 * mine:.0f} ms a picture"
        f" on {len(ours)} cores (start-up included): {plain / mine:.1f} times"
    )


def _full_size_pictures(folder: Path) -> list[str]:
    draw({"layout": "columbia", "subjects": 1, "scale": 0.25}, folder / "drawn", 1)
    (folder / "full").mkdir()
    for source in sorted((folder / "drawn/0001").iterdir())[:PICTURES]:
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
import resource, sys, time
from gazepipe.datasets.mpiifacegaze import prepare_subject
start = time.perf_counter()
prepare_subject(sys.argv[1], "p00", {"kind": "face", "height": 224, "width": 224})
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def mpiifacegaze_ratio(folder: Path) -> None:
    """Time to prepare a file over a bare copy of its bytes, both warm."""
    rng = np.random.default_rng(0)
    with h5py.File(folder / "p00.mat", "w") as file:
        data = file.create_dataset("Data/data", (ROWS, 3, 448, 448), np.uint8)
        for row in range(0, ROWS, 100):
            data[row : row + 100] = rng.integers(0, 256, (100, 3, 448, 448), np.uint8)
        file["Data/label"] = rng.uniform(-0.3, 0.3, (ROWS, 16)).astype(np.float32)
    copies, prepared, peaks = [], [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        with open(folder / "p00.mat", "rb") as source, open(folder / "copy", "wb") as target:
            while block := source.read(1 << 20):
                target.write(block)
        copies.append(time.perf_counter() - start)
        output = subprocess.check_output([sys.executable, "-c", MPIIFACEGAZE, str(folder)], text=True)
        seconds, peak = map(float, output.split())
        prepared.append(seconds)
        peaks.append(peak)
    copy, mine = float(np.median(copies)), float(np.median(prepared))
    print(
        f"mpiifacegaze 448x448, {ROWS} rows: copy {copy:.2f} s, prepare {mine:.2f} s: {mine / copy:.2f} times;"
        f" peak memory {max(peaks):.0f} MB"
    )


def store_ratio(folder: Path) -> None:
    """Rate of random batches of 64 from a store over that of np.memmap on a bare file of the same images."""
    from gazepipe.datasets.store import write_store

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4000, 1, 224, 224), np.uint8)
    zeros = np.zeros((len(images), 2), np.float32)
    frames = [f"{row:05d}" for row in range(len(images))]
    batch = {"image": images, "target": zeros, "head_pose": zeros, "subject": "s", "frame": frames}
    write_store(folder / "s.h5", [batch], {"dataset": "b", "patch": PATCH, "source": "none"})
    images.tofile(folder / "bare")
    sources = {"store": open_store(folder / "s.h5").image, "memmap": np.memmap(folder / "bare", np.uint8, "r")}
    sources["memmap"] = sources["memmap"].reshape(images.shape)
    picks = [np.sort(rng.choice(len(images), 64, replace=False)) for _ in range(200)]
    times = {name: [] for name in sources}
    for _ in range(ROUNDS):
        for name, source in sources.items():
            start = time.perf_counter()
            for pick in picks:
                np.ascontiguousarray(source[pick])
            times[name].append(time.perf_counter() - start)
    store, bare = (float(np.median(times[name])) for name in ("store", "memmap"))
    print(f"store: batch of 64 in {5 * store:.2f} ms, np.memmap {5 * bare:.2f} ms: {bare / store:.2f} of its rate")


def main() -> None:
    """Run all three in a temporary folder."""
    for part in (columbia_ratio, mpiifacegaze_ratio, store_ratio):
        with tempfile.TemporaryDirectory() as folder:
            part(Path(folder))
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _prepare(sys.argv[1], sys.argv[2:])
    else:
        main()
