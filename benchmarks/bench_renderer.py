"""Images a second and core of the drawn data: python benchmarks/bench_renderer.py [images per case]."""

import sys
import time

import cv2
import numpy as np

from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import lab, wild
from gazepipe.drawn.face.subject import Subject, build_subject
from gazepipe.drawn.layouts import columbia, mpiifacegaze

COLUMBIA_SIZE = (648, 432)


def face(subject: Subject, rng: np.random.Generator, style, size: int) -> None:
    """A normalised face view of `size` px."""
    sample = mpiifacegaze.sample_geometry(subject, rng, size)
    render(subject, sample.view, sample.target, *style(rng), rng)


def columbia_frame(subject: Subject, rng: np.random.Generator) -> None:
    """A Columbia frame at scale 0.125, encoded."""
    sample = columbia.sample_geometry(subject, rng, COLUMBIA_SIZE, 15, 0, -5)
    frame = render(subject, sample.view, sample.target, *lab(rng), rng)
    cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, columbia.JPEG_QUALITY])


def report(name: str, draw, count: int) -> None:
    """Print images a second of `draw(subject, rng)` over `count` images and four subjects, in processor time."""
    subjects = [build_subject(np.random.default_rng(index), index == 0) for index in range(4)]
    draw(subjects[0], np.random.default_rng(0))
    start = time.process_time()
    for index in range(count):
        draw(subjects[index % len(subjects)], np.random.default_rng(index))
    seconds = time.process_time() - start
    print(f"{name:<28} {count / seconds:7.1f} images/s   {1000 * seconds / count:6.1f} ms")


def main() -> None:
    """Run every case on one core."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    cv2.setNumThreads(1)
    report("face 224x224, lab", lambda subject, rng: face(subject, rng, lab, 224), count)
    report("face 224x224, wild", lambda subject, rng: face(subject, rng, wild, 224), count)
    report("Columbia frame 648x432, jpg", columbia_frame, count)
    report("normalised view 256x256", lambda subject, rng: face(subject, rng, wild, 256), count)
    report("subject", lambda _, rng: build_subject(rng, True), max(count // 4, 1))


if __name__ == "__main__":
    main()
