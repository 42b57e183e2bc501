"""The typed blocks of the export of a network."""

from typing import Annotated, Literal

from pydantic import Field

from gazepipe.common.settings import Count, NonNegative, Positive, Seed, Settings
from gazepipe.models.settings import Spec
from gazepipe.training.settings import Augmentation, Training


class FineTuning(Settings):
    """Training on with rounded weights and activations."""

    epochs: Count = 3
    """Passes over the training subjects."""
    learning_rate: Positive = 1e-4
    """Largest learning rate."""


class Deploy(Settings):
    """Export of the networks of `benchmark.deploy`."""

    calibration: Count = 256
    """Training samples from which the ranges of int8 are read."""
    tolerance: NonNegative = 0.01
    """Relative rise of the validation error that int8 may cost: 0.01 is 1 %."""
    fine_tuning: FineTuning | None = FineTuning()
    """Fine-tuning for int8 where it costs more than `tolerance`. null: none."""


# ---- the stages


class About(Settings):
    """What a bundle's card says of the run."""

    dataset: str
    """Data set that it was trained on."""
    model: str
    """The model's name in the configuration."""
    method: str
    """The method's name in the configuration."""
    drawn: bool
    """Whether the data are drawn."""
    licence: str
    """Licence of the data."""


class ExportSettings(Deploy):
    """Of the stages `export` and `export_errors`."""

    model: Spec
    """The network's arguments; shrinking and pruning may have changed its options and channels."""
    training: Training
    """How the run was trained, for fine-tuning."""
    augmentation: Augmentation
    """How the run's images were augmented, for fine-tuning."""
    fold: Annotated[int, Field(ge=0)]
    """The run's fold."""
    seed: Seed
    """The run's seed."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """What fine-tuning is computed on."""
    threads: Count
    """CPU threads."""
    about: About
    """What the card says of the run."""


class SpeedSettings(Settings):
    """Of the stage `speed`."""

    networks: list[str]
    """Names model/method, in the order of bundles and weights."""
    models: dict[str, Spec]
    """The networks' arguments by name."""
    batches: list[Count]
    """Batch sizes."""
    seconds: Positive
    """Seconds for which each network is timed, in each runtime and at each batch size."""
    threads: Annotated[int, Field(ge=0)]
    """CPU threads; 0: all cores."""
