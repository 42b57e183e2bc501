"""The typed blocks of the export of a network."""

from gazepipe.common.settings import Count, NonNegative, Positive, Settings


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
