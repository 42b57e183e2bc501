"""What is drawn: the settings of a data set's writer, checked and complete."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Drawing:
    """A drawn data set. Of `scale`, `images` and `size` those are set that its layout has."""

    layout: str
    """Native layout that is written."""
    subjects: int
    """Number of people."""
    seed: int
    """Seed of everything random."""
    scale: float = 1.0
    """Fraction of the real pictures' size."""
    images: int = 0
    """Pictures per subject."""
    size: int = 0
    """Side of the normalised view, or width of the camera's picture, px."""
