"""The typed block of what is read from a trained near-eye network."""

from typing import Annotated

from pydantic import Field

from gazepipe.common.settings import Count, NonNegative, Settings


class Explain(Settings):
    """What is read from a trained near-eye network."""

    samples: Count = 4
    """Test samples that are drawn as heat maps."""
    trees: Count = 100
    """Trees of the random forest."""
    widths: Annotated[list[Count], Field(min_length=1)] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    """Widths of the first layer that are tried; those above its own are left out, its own is always tried."""
    tolerance: NonNegative = 0.02
    """Relative rise of the validation error at which a width still counts as good: 0.02 is 2 %."""
