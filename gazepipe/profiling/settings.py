"""The typed block of the timing of networks."""

from typing import Annotated

from pydantic import Field

from gazepipe.common.settings import Count, Positive, Settings
from gazepipe.models.settings import Spec


class Profiling(Settings):
    """Timing of the networks: batch sizes, seconds per measurement, threads (0: all cores of the machine)."""

    batches: list[Count] = [1, 8]
    seconds: Positive = 2.0
    threads: Annotated[int, Field(ge=0)] = 0


class ProfileSettings(Profiling):
    """Of the stage `profile`."""

    sizes: dict[str, Spec]
    """The networks that are counted and timed, by the name of their size."""
