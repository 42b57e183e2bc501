"""A drawn head before a camera, which the face models find: something to look at without photographs."""

from functools import cache

import numpy as np

WIDTH, HEIGHT = 648, 432


@cache
def drawn_face(pose_deg: int = 0) -> np.ndarray:
    """BGR picture u8 [432, 648, 3] of one head, turned by `pose_deg` (as in Columbia's names), 2 m away."""
    from gazepipe.drawn.face.render import render
    from gazepipe.drawn.face.style import lab
    from gazepipe.drawn.face.subject import build_subject
    from gazepipe.drawn.layouts import columbia as drawer

    rng = np.random.default_rng(0)
    subject = build_subject(rng, glasses=False)
    sample = drawer.sample_geometry(subject, rng, (WIDTH, HEIGHT), pose_deg, 0, 0)
    picture = render(subject, sample.view, sample.target, *lab(rng), rng)
    picture.setflags(write=False)
    return picture


def shifted(image: np.ndarray, x: int, y: int) -> np.ndarray:
    """The picture moved by whole pixels; what leaves on one side comes back on the other."""
    return np.ascontiguousarray(np.roll(image, (y, x), (0, 1)))
