"""The typed block of the statistics over subjects."""

from typing import Annotated, Literal

from pydantic import Field

from gazepipe.common.settings import Count, Seed, Settings
from gazepipe.models.settings import Spec


class Statistics(Settings):
    """Confidence intervals: a bootstrap over subjects."""

    resamples: Annotated[int, Field(ge=1000)] = 10_000
    """Resamples of the subjects."""
    seed: Seed = 0
    """Seed of the resamples."""


# ---- the stages


class PredictSettings(Settings):
    """Of the stage `predict`."""

    model: Spec
    """The network's arguments; shrinking and pruning may have changed its options and channels."""
    fold: Annotated[int, Field(ge=0)] | None
    """The fold whose test subjects are predicted; null: every subject of the store."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """What it is computed on."""
    threads: Count
    """CPU threads."""


class MeanSettings(Settings):
    """Of the stage `predict_mean`."""

    fold: Annotated[int, Field(ge=0)]
    """The fold whose training subjects the mean is taken of."""
    own: bool
    """Whether the data set tested is the one trained on: then only the fold's test subjects are predicted."""
