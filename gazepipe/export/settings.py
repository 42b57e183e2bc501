"""The typed blocks of the export of a network."""

from gazepipe.common.settings import Count, NonNegative, Positive, Settings


class FineTuning(Settings):
    """Training on with rounded weights and activations."""

    epochs: Count = 3
    learning_rate: Positive = 1e-4


class Deploy(Settings):
    """Export: training samples that int8 ranges are read from, the relative loss of validation error that int8 may
    cost, and the fine-tuning (null: none) where it costs more."""

    calibration: Count = 256
    tolerance: NonNegative = 0.01
    fine_tuning: FineTuning | None = FineTuning()
