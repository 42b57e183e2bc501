"""The typed blocks of the kinds of method."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, NonNegative, Positive, Seed, Settings
from gazepipe.models.settings import Spec
from gazepipe.training.settings import Augmentation, Training


class FeatureKD(Settings):
    """Feature distillation after Zhang & Ma (2021): stages (0 is the first), softmax temperature, term weights."""

    stages: list[Annotated[int, Field(ge=0)]] = [0, 1]
    temperature: Positive = 0.5
    masked: NonNegative = 0.0
    attention: NonNegative = 0.0
    non_local: NonNegative = 0.0


class KD(Settings):
    """Distillation from the method's `teacher`: weight of its output, random targets (TAT), features, reliability."""

    response: NonNegative = 1.0
    random_target: bool = False
    reliability: bool = False
    feature: FeatureKD | None = None


class Rebirth(Settings):
    """Cosine-similarity pruning that keeps the size: share of each layer's filters reborn, generations, epochs each."""

    share: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    generations: Annotated[int, Field(ge=1, le=8)] = 2
    epochs: Count = 3
    max_filters: Count = 128
    pearson: NonNegative = 0.0


class Shrink(Settings):
    """A smaller network cut from the parent's. `embedding`: the first fully connected layer factored (`low_rank`) or
    without its least important dimensions (`dropped`); `width`: its new size, or `auto`, what `explain` found;
    `towers`: share of the channels that stay, chosen by `importance`."""

    embedding: Literal["low_rank", "dropped"] | None = None
    width: Literal["auto"] | Count = "auto"
    towers: Annotated[float, Field(gt=0, le=1)] = 1.0
    importance: Literal["taylor", "l2", "cosine"] = "taylor"


class Structural(Settings):
    """Structural pruning of the parent's network: the `ratio` of its full size's multiply-adds (`macs`) or parameters
    that is left, in `steps` prunings that divide the cost alike, with `epochs` of training after each but the last,
    which has `training.epochs`; channels by `importance`, the same share of each group (`local`) or wherever they
    matter least (`global`), in multiples of `round_to`."""

    target: Literal["macs", "params"] = "macs"
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    importance: Literal["taylor", "l2", "cosine", "geometric_median"] = "taylor"
    scope: Literal["global", "local"] = "global"
    round_to: Count = 8
    steps: Annotated[int, Field(ge=1, le=16)] = 1
    epochs: Count = 2


MODULES = {
    "kd": "gazepipe.methods.distillation",
    "rebirth": "gazepipe.methods.rebirth",
    "shrink": "gazepipe.methods.shrink.shrink",
    "structural": "gazepipe.methods.structural.steps",
}
"""The module of each kind. It is loaded by name, and only by the methods that use it: source fingerprints follow import
statements, so a change in re-birth leaves the runs of other methods alone."""


class Kinds(Settings):
    """What a method does to its network: any of these kinds, of which one at most changes the network itself."""

    kd: KD | None = None
    rebirth: Rebirth | None = None
    shrink: Shrink | None = None
    structural: Structural | None = None

    @model_validator(mode="after")
    def _one_changes_the_network(self) -> "Kinds":
        if sum(kind is not None for kind in (self.rebirth, self.shrink, self.structural)) > 1:
            raise ValueError("'rebirth', 'shrink' and 'structural' each change the network: use one in a method")
        return self

    @property
    def makes_a_shape(self) -> bool:
        """Whether the network that comes out is smaller than the parent's."""
        return self.shrink is not None or self.structural is not None


class TrainSettings(Settings):
    """Of the stage `train`."""

    model: Spec
    """The network's arguments."""
    training: Training
    """How it is trained."""
    augmentation: Augmentation
    """How its images are augmented."""
    kinds: Kinds = Kinds()
    """What its method does."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What it is computed on."""
    fold: Annotated[int, Field(ge=0)]
    """The fold whose training subjects it learns from."""
    seed: Seed
    """Where every random number comes from."""
