"""The typed blocks of a training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, NonNegative, Positive, Settings, Share


class EarlyStopping(Settings):
    """Training ends when the validation error has not fallen by more than `delta` (degrees or pixels) for `patience`
    epochs."""

    patience: Count = 10
    delta: NonNegative = 0.0


class Training(Settings):
    """How any network is trained; a data set's, a model's or a method's own `training` overrides single keys.
    `normalise`: images by mean and deviation of the `store` (0.5, 0.5) or of the `training` subjects' pixels;
    `processes`: how many divide each batch of one run, with a GPU each, or `threads` each on the CPU; `tag` names a
    TensorBoard run."""

    epochs: Count = 12
    batch_size: Count = 64
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.01
    schedule: Literal["cosine", "step"] = "cosine"
    warmup_epochs: NonNegative = 1.0
    step_epochs: Count = 20
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    clip_norm: NonNegative = 5.0
    ema: Share = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    loss: Literal["mse", "l2", "l1", "smooth_l1", "angular"] = "smooth_l1"
    early_stopping: EarlyStopping | None = None
    normalise: Literal["store", "training"] = "store"
    threads: Count = 1
    processes: Count = 1
    tensorboard: bool = False
    tag: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")] = ""


class Augmentation(Settings):
    """At most one operation per sample, drawn by these weights; with 1 minus their sum, none (see training.augment)."""

    crop: Share = 0.05
    flip: Share = 0.25
    blur: Share = 0.04
    sharpness: Share = 0.04
    mixup: Share = 0.04
    pairs: Share = 0.05
    shift: Annotated[float, Field(ge=0, le=0.2)] = 0.025
    brightness: NonNegative = 0.2
    contrast: NonNegative = 0.2
    noise: NonNegative = 0.02

    @model_validator(mode="after")
    def _weights(self) -> "Augmentation":
        total = self.crop + self.flip + self.blur + self.sharpness + self.mixup + self.pairs
        if total > 1:
            raise ValueError(f"crop + flip + blur + sharpness + mixup + pairs = {total:g}, must be at most 1")
        return self
