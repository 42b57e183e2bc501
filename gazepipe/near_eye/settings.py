"""The typed block of what is read from a trained near-eye network."""

from typing import Annotated, Literal

from pydantic import Field

from gazepipe.common.settings import Count, NonNegative, Seed, Settings


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


# ---- the stages


class ExplainSettings(Explain):
    """Of the stage `explain`."""

    fold: Annotated[int, Field(ge=0)]
    """The run's fold."""
    seed: Seed
    """The run's seed."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """What it is computed on."""
    threads: Count
    """CPU threads."""
    recover_epochs: Count = 30
    """Epochs for which the layers behind a narrowed one are trained, for each width that is tried."""


class AgreementSettings(Settings):
    """Of the stage `explain_seeds`."""

    seeds: list[Seed]
    """The seeds whose explanations are compared."""
