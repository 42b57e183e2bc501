"""Frames per second of `gazepipe video`, all included: python benchmarks/bench_video.py [CLIP BUNDLE [CORES]]

Decoding, faces, gaze, drawing, H.264 and CSV of a clip, by each runtime in turn, on CORES cores (2); models are
loaded before the clock starts. Without a clip a drawn head moves across the picture, and an untrained network looks at
it. On a machine that does other work, too, the CPU time is what to go by: below 1000 * CORES / 30 ms a frame there is
room for 30 frames/s.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROUNDS = 5
FRAMES, RATE = 60, 25
SIZE = (648, 432)
SPEC = {"arch": "resnet18", "width": 0.25, "input": [1, 36, 112], "options": {}}


def measure(
    clip: str | None = None, bundle: str | None = None, cores: int = 2, rounds: int = ROUNDS, frames: int = FRAMES
) -> pd.DataFrame:
    """Frames a second through each model file of the bundle: median, lowest and highest of interleaved rounds."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from gazepipe.live.runtime import FILES
    from gazepipe.live.video import Options, run_video

    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = clip or str(_drawn_clip(folder / "clip.mp4", frames))
        models = Path(bundle) if bundle else _untrained_bundle(folder / "bundle")
        outputs = {"output": folder / "out.mp4", "csv": folder / "gaze.csv"}
        for _ in range(rounds):
            for runtime, names in FILES.items():
                for int8, file in enumerate(names):
                    if (models / file).exists():
                        report = run_video(film, models, Options(runtime=runtime, int8=bool(int8), **outputs))
                        print(f"{file}: {' | '.join(report.splitlines()[:3])}", flush=True)
                        rates.setdefault(file, []).append(float(re.search(r"([\d.]+) frames/s", report)[1]))
    table = pd.DataFrame(rates).agg(["median", "min", "max"]).T.rename_axis("file").reset_index()
    return table.rename(columns={"median": "frames_per_second", "min": "lowest", "max": "highest"})


def _drawn_clip(path: Path, frames: int) -> Path:
    """A drawn head that moves to the right, 2 px a frame."""
    import numpy as np

    from gazepipe.common.video import video_writer
    from gazepipe.drawn.face.render import render
    from gazepipe.drawn.face.style import lab
    from gazepipe.drawn.face.subject import build_subject
    from gazepipe.drawn.layouts import columbia

    rng = np.random.default_rng(0)
    subject = build_subject(rng, glasses=False)
    sample = columbia.sample_geometry(subject, rng, SIZE, 0, 0, 0)
    picture = render(subject, sample.view, sample.target, *lab(rng), rng)
    with video_writer(path, RATE) as write:
        for number in range(frames):
            write(np.ascontiguousarray(np.roll(picture, 2 * number, 1)), number / RATE)
    return path


def _untrained_bundle(folder: Path) -> Path:
    """Every model file of an untrained network with the description that the player reads."""
    from bench_deploy import exported

    from gazepipe.common.files import sha256, write_json
    from gazepipe.geometry import VIEW_GEOMETRY
    from gazepipe.live.bundle import DESCRIPTION, SCHEMA

    exported(SPEC, folder)
    views = SPEC["input"]
    content = {
        "schema": SCHEMA,
        "task": "gaze angles",
        "units": "rad",
        "target_scale": [1, 1],
        "input": views,
        "patch": {"kind": "eyes", "height": views[1], "width": views[2]},
        "mean": 0.5,
        "std": 0.25,
        "geometry": VIEW_GEOMETRY,
        "grayscale": True,
        "files": {
            path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.glob("model*"))
        },
    }
    write_json(folder / DESCRIPTION, content)
    return folder


def main() -> None:
    """Run the clip in interleaved rounds and print each report's times, then the medians."""
    clip, bundle, cores = [*sys.argv[1:4], None, None, None][:3]
    table = measure(clip, bundle, int(cores or 2))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, of which {cores or 2} are used")
    print(table.to_string(index=False, float_format="%.1f"))


if __name__ == "__main__":
    main()
