"""The native layouts, each declared once: what the configuration must know of it.

What reads it is the module of this package that has its name (`near-eye`: `near_eye.py`), what draws it the one in
`gazepipe.drawn.layouts`. Both are loaded by name, and only where they are used, so a change in one reader leaves the
data sets of other layouts alone. No stage imports the declarations: a new one leaves all of them alone.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Layout:
    """`patches`: kinds of patch that can be cut from its images, the usual one first; `task`: what networks predict
    from them, gaze angles or the gaze point in a scene image; `drawn`: whether it has a writer."""

    patches: tuple[str, ...] = ("eyes", "face")
    task: Literal["angles", "point"] = "angles"
    drawn: bool = True


LAYOUTS = {
    "columbia": Layout(),
    "mpiifacegaze": Layout(),
    "ethxgaze": Layout(),
    "mpiigaze": Layout(patches=("eye",)),
    "mpiigaze-npz": Layout(patches=("eye",), drawn=False),
    "manifest": Layout(),
    "near-eye": Layout(patches=("near-eye",), task="point"),
}
