"""The kinds of method: each is declared here once, by its settings and by its field in `Kinds`.

What a kind can do is said in `gazepipe.training.method.Kind`; the class that does it lies in a module of its own.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from gazepipe.common.settings import Count, NonNegative, Positive, Seed, Settings
from gazepipe.models.settings import Spec
from gazepipe.training.settings import Augmentation, Training


class KindSettings(Settings):
    """Base of the settings of a kind, and what others must know about it."""

    code: ClassVar[str]
    """The class that carries it out, "module:class". It is loaded by name, and only by the methods that use it: source
    fingerprints follow import statements, so a change in re-birth leaves the runs of other methods alone."""
    needs: ClassVar[Literal["parent", "teacher"] | None] = None
    """The link that a method of this kind must have."""
    changes_network: ClassVar[bool] = False
    """Whether it changes the network that it starts from, which one kind of a method may do."""
    makes_a_shape: ClassVar[bool] = False
    """Whether the network that comes out has another shape."""
    stands_alone: ClassVar[bool] = False
    """Whether a method of this kind has no other kind and no parent."""

    def epochs_of(self, epochs: int) -> int:
        """Epochs of a method of this kind, all its trainings together, where `epochs` are asked for."""
        return epochs


class Placebo(KindSettings):
    """A control whose network cannot learn the gaze: what the others are better than."""

    code = "gazepipe.methods.placebo:CannotLearn"
    stands_alone = True

    learns: Literal["shuffled_labels", "nothing"] = "shuffled_labels"
    """`shuffled_labels`: the labels of the training samples, each given to another sample, once for the whole training;
    `nothing`: the weights stay as they were drawn, and only batch statistics are taken."""

    def epochs_of(self, epochs: int) -> int:
        return 0 if self.learns == "nothing" else epochs


class FeatureKD(Settings):
    """Feature distillation after Zhang & Ma (ICLR 2021)."""

    stages: list[Annotated[int, Field(ge=0)]] = [0, 1]
    """Stages of the network whose feature maps are compared; 0 is the first."""
    temperature: Positive = 0.5
    """Temperature of the softmax that makes attention masks."""
    masked: NonNegative = 0.0
    """Weight of the masked feature term. 0: off."""
    attention: NonNegative = 0.0
    """Weight of the attention term. 0: off."""
    non_local: NonNegative = 0.0
    """Weight of the non-local term. 0: off."""


class KD(KindSettings):
    """Distillation from the method's `teacher`."""

    code = "gazepipe.methods.distillation:Distillation"
    needs = "teacher"

    labels: NonNegative = 1.0
    """Weight of the labels. 0: the teacher alone says what is right. Without effect with `random_target`."""
    response: NonNegative = 1.0
    """Weight of imitating the teacher's output. Without effect with `random_target`."""
    mixed: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the images that are mixed, each with another one of its batch. What gaze they show only the teacher
    says (function matching, Beyer et al. 2022)."""
    random_target: bool = False
    """true: one loss to a random mixture of the teacher's output and the label (TAT, Guo 2019)."""
    reliability: bool = False
    """true: samples on which the teacher errs count less (Saputra 2019)."""
    feature: FeatureKD | None = None
    """Distillation of feature maps besides. null: none."""


class PseudoLabels(KindSettings):
    """The `teacher` labels the images of the method's `unlabelled` data sets, and the network learns them, too. They
    take the place of labelled ones: as many images are seen as in `training.epochs` epochs of labelled ones alone."""

    code = "gazepipe.methods.pseudo_labels:LearnsPseudoLabels"
    needs = "teacher"

    share: Positive = 1.0
    """Images with the teacher's label in each step, per image with a true one."""
    average: bool = True
    """true: a label is the mean of the teacher's outputs over the image, the image moved by `augmentation.shift` in the
    four directions and, where `augmentation.flip` is not 0, the mirror images of these. false: its output for the
    image."""

    def epochs_of(self, epochs: int) -> int:
        return max(1, round(epochs / (1 + self.share)))


class Rebirth(KindSettings):
    """Pruning that keeps the size: the most redundant filters start again, orthogonal to the others."""

    code = "gazepipe.methods.rebirth:FilterRebirth"
    needs = "parent"
    changes_network = True

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Share of each layer's filters that is reborn in each generation, at least one. 0: none, all else alike: the
    control of a method that is the same but for it."""
    generations: Annotated[int, Field(ge=1, le=8)] = 2
    """How often filters are reborn."""
    epochs: Count = 3
    """Epochs of training of each generation."""
    max_filters: Count = 128
    """Layers with more filters take no part."""
    pearson: NonNegative = 0.0
    """Weight of the penalty on the correlation between a layer's filters. 0: off."""

    def epochs_of(self, epochs: int) -> int:
        return self.generations * self.epochs


class Shrink(KindSettings):
    """A smaller near-eye network cut from the parent's: its first fully connected layer, its towers, or both."""

    code = "gazepipe.methods.shrink.shrink:Shrinking"
    needs = "parent"
    changes_network = True
    makes_a_shape = True

    first_layer: Literal["low_rank", "dropped"] | None = None
    """The first fully connected layer: `low_rank`: factored in two; `dropped`: without its least important dimensions;
    null: as it is."""
    width: Literal["auto"] | Count = "auto"
    """Dimensions that the first layer keeps. `auto`: what `explain` found on the parent's run."""
    towers: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the towers' channels that stays. 1: all."""
    criterion: Literal["taylor", "l2", "cosine"] = "taylor"
    """What the towers' channels are judged by: change of the loss without them (`taylor`), length of their filters
    (`l2`) or similarity to the other filters (`cosine`)."""


class Structural(KindSettings):
    """Structural pruning of the parent's network: whole channels go."""

    code = "gazepipe.methods.structural.steps:Pruning"
    needs = "parent"
    changes_network = True
    makes_a_shape = True

    target: Literal["macs", "params"] = "macs"
    """What `ratio` is a share of: multiply-adds (`macs`) or parameters (`params`)."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the full network's cost that is left."""
    criterion: Literal["taylor", "l2", "cosine", "geometric_median"] = "taylor"
    """What channels are judged by: change of the loss without them (`taylor`), length of their filters (`l2`),
    similarity to the other filters (`cosine`) or distance to them (`geometric_median`)."""
    scope: Literal["global", "local"] = "global"
    """`global`: channels go where they matter least; `local`: the same share of each group."""
    round_to: Count = 8
    """Layers keep a multiple of so many channels."""
    steps: Annotated[int, Field(ge=1, le=16)] = 1
    """Prunings, which divide the cost alike, with training between them."""
    epochs: Count = 2
    """Epochs of training after each pruning but the last, which has `training.epochs`."""

    def epochs_of(self, epochs: int) -> int:
        return (self.steps - 1) * self.epochs + epochs


class Kinds(Settings):
    """What a method does to its network: any of these kinds, of which one at most changes the network itself. They act
    in this order: each has what those before made of network and objective."""

    placebo: Placebo | None = None
    """Cannot learn: a control. null: it can."""
    kd: KD | None = None
    """Imitate the `teacher`. null: no."""
    pseudo_labels: PseudoLabels | None = None
    """Learn from images without labels, which the `teacher` labels. null: no."""
    rebirth: Rebirth | None = None
    """Restart redundant filters of the parent's network. null: no."""
    shrink: Shrink | None = None
    """Cut a smaller near-eye network from the parent's. null: no."""
    structural: Structural | None = None
    """Prune channels of the parent's network. null: no."""

    @model_validator(mode="after")
    def _one_changes_the_network(self) -> "Kinds":
        if sum(kind.changes_network for kind in self.chosen.values()) > 1:
            *names, last = [f"'{name}'" for name, kind in declared(type(self)).items() if kind.changes_network]
            raise ValueError(f"{', '.join(names)} and {last} each change the network: use one in a method")
        return self

    @model_validator(mode="after")
    def _some_stand_alone(self) -> "Kinds":
        for name, kind in self.chosen.items():
            if kind.stands_alone and len(self.chosen) > 1:
                raise ValueError(f"'{name}' stands alone: remove the other kinds")
        return self

    @property
    def chosen(self) -> dict[str, KindSettings]:
        """The settings of the kinds that there are, by name."""
        return {name: value for name, value in self if isinstance(value, KindSettings)}

    @property
    def makes_a_shape(self) -> bool:
        """Whether the network that comes out is smaller than the parent's."""
        return any(kind.makes_a_shape for kind in self.chosen.values())

    def epochs_of(self, epochs: int) -> int:
        """Epochs of the method, all its trainings together, where `epochs` are asked for."""
        for kind in self.chosen.values():
            epochs = kind.epochs_of(epochs)
        return epochs


def declared(kinds: type[Kinds]) -> dict[str, type[KindSettings]]:
    """The class of each kind's settings, by name."""
    found = {name: get_args(field.annotation)[:1] for name, field in kinds.model_fields.items()}
    return {name: kind for name, (kind,) in found.items() if isinstance(kind, type) and issubclass(kind, KindSettings)}


MODULES = {name: kind.code.partition(":")[0] for name, kind in declared(Kinds).items()}
"""The module of each kind, for source fingerprints."""


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

    def deciding(self) -> dict[str, Any]:
        """Without the kinds that the method has not: a new kind reruns no run that does not use it."""
        kinds = {name: kind.deciding() for name, kind in self.kinds.chosen.items()}
        return {**super().deciding(), "kinds": kinds}
