"""The typed blocks of a training."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, NonNegative, Positive, Settings, Share


def _is_auto(value: Any) -> bool:
    """Left out, as it was before there was this key: `auto` decides nothing that the device does not."""
    return value == "auto"


class EarlyStopping(Settings):
    """When a training ends before its last epoch."""

    patience: Count = 10
    """Epochs without improvement after which training ends."""
    delta: NonNegative = 0.0
    """Fall of the validation error that counts as improvement, degrees or scene pixels."""


class Training(Settings):
    """How networks are trained. A data set's, a model's or a method's own `training` overrides single keys."""

    epochs: Count = 12
    """Passes over the training subjects; the best epoch on the validation subjects is kept."""
    batch_size: Count = 64
    """Samples per step, over all processes together."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimiser; `sgd` with Nesterov momentum 0.9."""
    learning_rate: Positive = 1e-3
    """Largest learning rate, after the warm-up."""
    weight_decay: NonNegative = 0.01
    """Weight decay; not on norms and biases. 0: none."""
    schedule: Literal["cosine", "step"] = "cosine"
    """`cosine`: half a cosine down to 0; `step`: times `step_factor` every `step_epochs`."""
    warmup_epochs: NonNegative = 1.0
    """Epochs of linear warm-up, at most half of all. 0: none."""
    step_epochs: Count = 20
    """Epochs between two steps of the schedule `step`."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor on the learning rate at each step of the schedule `step`."""
    clip_norm: NonNegative = 5.0
    """Largest norm of a step's gradient; longer ones are cut to it. 0: off."""
    ema: Share = 0.0
    """Decay per step of a moving average of the weights, which is what is judged and kept. 0: off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the device computes it natively, else fp32."""
    loss: Literal["mse", "l2", "l1", "smooth_l1", "angular"] = "smooth_l1"
    """In degrees (percent of the scene's width for points). `mse` and `l2` are the same; `smooth_l1` bends at 1;
    `angular` is for gaze angles only."""
    early_stopping: EarlyStopping | None = None
    """When training ends before its last epoch. null: never."""
    normalise: Literal["store", "training"] = "store"
    """Mean and deviation of the images: of the `store` (0.5 and 0.5), or of the `training` subjects' pixels."""
    threads: Count = 1
    """CPU threads of each process. Results depend on it, since sums do."""
    processes: Count = 1
    """Processes that divide each batch of one run, with a GPU each, or `threads` each on the CPU."""
    compile: Annotated[Literal["auto"] | bool, Field(exclude_if=_is_auto)] = "auto"
    """Whether torch.compile compiles the forward passes of network and teacher. `auto`: on a GPU, where a training has
    10,000 steps or more. Results differ a little; batches of up to 4 megapixels also become CUDA graphs."""
    tensorboard: bool = False
    """true: scalars of every epoch for TensorBoard in the run's folder."""
    tag: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")] = ""
    """Name of the TensorBoard run, a subfolder. Empty: none."""


class Augmentation(Settings):
    """Random changes of training images. At most one of the operations `crop` to `pairs` touches a sample: each is
    drawn with its probability, none with what is left of 1."""

    crop: Share = 0.05
    """Probability of a random crop of 80 to 95 % of the area, resized to the full size."""
    flip: Share = 0.25
    """Probability of a mirror image; the yaw changes its sign. 0 for gaze points."""
    blur: Share = 0.04
    """Probability of a 5 x 5 Gaussian blur, sigma 0.9 to 1.3 px."""
    sharpness: Share = 0.04
    """Probability of a change of sharpness by a factor of 0.8 to 4.8."""
    mixup: Share = 0.04
    """Probability of the mean of a sharpened copy and a slight crop of the same image."""
    pairs: Share = 0.05
    """Probability of two different ones of the operations above; no flip where `flip` is 0."""
    shift: Annotated[float, Field(ge=0, le=0.2)] = 0.025
    """Largest shift of every image along either axis, as a share of the width, in whole pixels. 0: none."""
    brightness: NonNegative = 0.2
    """Every image's brightness changes by a factor of 1 - b to 1 + b. 0: none."""
    contrast: NonNegative = 0.2
    """Every image's contrast changes by a factor of 1 - c to 1 + c. 0: none."""
    noise: NonNegative = 0.02
    """Largest standard deviation of pixel noise, images in 0 to 1. 0: none."""

    @model_validator(mode="after")
    def _weights(self) -> "Augmentation":
        total = self.crop + self.flip + self.blur + self.sharpness + self.mixup + self.pairs
        if total > 1:
            raise ValueError(f"crop + flip + blur + sharpness + mixup + pairs = {total:g}, must be at most 1")
        return self
