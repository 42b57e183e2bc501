"""Images a second and core of the drawn data: python benchmarks/bench_renderer.py [images per case]."""

import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd

from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import lab, wild
from gazepipe.drawn.face.subject import Subject, build_subject
from gazepipe.drawn.layouts import columbia, mpiifacegaze

COLUMBIA_SIZE = (648, 432)
Draw = Callable[[Subject, np.random.Generator], object]


def face(subject: Subject, rng: np.random.Generator, style, size: int) -> None:
    """A normalised face view of `size` px."""
    sample = mpiifacegaze.sample_geometry(subject, rng, size)
    render(subject, sample.view, sample.target, *style(rng), rng)


def columbia_frame(subject: Subject, rng: np.random.Generator) -> None:
    """A Columbia frame at scale 0.125, encoded."""
    sample = columbia.sample_geometry(subject, rng, COLUMBIA_SIZE, 15, 0, -5)
    frame = render(subject, sample.view, sample.target, *lab(rng), rng)
    cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, columbia.JPEG_QUALITY])


CASES: dict[str, Draw] = {
    "face 224x224, lab": lambda subject, rng: face(subject, rng, lab, 224),
    "face 224x224, wild": lambda subject, rng: face(subject, rng, wild, 224),
    "Columbia frame 648x432, jpg": columbia_frame,
    "normalised view 256x256": lambda subject, rng: face(subject, rng, wild, 256),
    "subject": lambda _, rng: build_subject(rng, True),
}


def measure(count: int = 40, rounds: int = 5) -> pd.DataFrame:
    """Images a second and milliseconds an image of each case: medians of `rounds` that draw `count` images each, of
    four subjects, in processor time of one core. Cases take turns."""
    cv2.setNumThreads(1)
    subjects = [build_subject(np.random.default_rng(index), index == 0) for index in range(4)]
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, draw in CASES.items():
            # The first round warms up.
            images = range(count if number else 1)
            start = time.process_time()
            for index in images:
                draw(subjects[index % len(subjects)], np.random.default_rng(index))
            if number:
                times[name].append((time.process_time() - start) / count)
    taken = {name: float(np.median(found)) for name, found in times.items()}
    return pd.DataFrame(
        [{"image": name, "images_per_second": 1 / each, "ms": 1000 * each} for name, each in taken.items()]
    )


def main() -> None:
    """Print every case."""
    print(measure(*map(int, sys.argv[1:2])).to_string(index=False, float_format="%.1f"))


if __name__ == "__main__":
    main()
