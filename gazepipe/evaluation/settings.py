"""The typed block of the statistics over subjects."""

from typing import Annotated

from pydantic import Field

from gazepipe.common.settings import Seed, Settings


class Statistics(Settings):
    """Confidence intervals: a bootstrap over subjects."""

    resamples: Annotated[int, Field(ge=1000)] = 10_000
    """Resamples of the subjects."""
    seed: Seed = 0
    """Seed of the resamples."""
