"""The typed block of the timing of networks."""

from typing import Annotated

from pydantic import Field

from gazepipe.common.settings import Count, Positive, Settings
from gazepipe.models.settings import Spec


class Profiling(Settings):
    """How networks are timed."""

    batches: list[Count] = [1, 8]
    """Batch sizes that are timed."""
    seconds: Positive = 2.0
    """Seconds of each measurement."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads. 0: all cores."""


class ProfileSettings(Profiling):
    """Of the stage `profile`."""

    sizes: dict[str, Spec]
    """The networks that are counted and timed, by the name of their size."""
