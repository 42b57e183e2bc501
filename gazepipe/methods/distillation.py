"""Knowledge distillation: objectives in which a trained network teaches another, of the same architecture or not."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.errors import UserError
from gazepipe.methods.settings import KD, FeatureKD
from gazepipe.models.registry import forward_features, stage_channels
from gazepipe.training.compiled import compiled
from gazepipe.training.inherit import load_teacher
from gazepipe.training.losses import Loss, Objective, loss_of
from gazepipe.training.method import Kind, Network
from gazepipe.training.samples import (
    Samples,
    batches,
    evaluation_batch,
    normalised,
    to_unit,
)
from gazepipe.training.transfer import sent

NON_LOCAL_POSITIONS = 256

Forward = Callable[[nn.Module, torch.Tensor, bool], tuple[torch.Tensor, list[torch.Tensor]]]
"""(model, images, whether feature maps are wanted) -> predictions [B, 2], the maps of all stages."""


def outputs(model: nn.Module, images: torch.Tensor, features: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The `Forward` of a network."""
    if not features:
        return model(images).float(), []
    prediction, maps = forward_features(model, images)
    return prediction.float(), maps


class Distillation(Kind):
    """The kind `kd`: the objective of the labels gives way to one of labels and teacher."""

    settings: KD

    def objective(self, base: Objective, network: Network) -> Objective:
        (student, spec), context = network, self.context
        teacher = load_teacher(context.files["teacher"], spec, context.samples)
        made = context.training.loss, context.samples, self.draws, context.device
        objective, self.adapters = prepare(self.settings, student, teacher, *made, compiled(outputs, context))
        return objective


def prepare(
    kd: KD,
    student: nn.Module,
    teacher: nn.Module,
    loss: str,
    train: Samples,
    draws: torch.Generator,
    device: torch.device,
    forward: Forward = outputs,
) -> tuple[Objective, nn.Module | None]:
    """The objective, and the adapters to train along (or None); both networks compute by `forward`.

    The plain objective is
    labels * loss(prediction, label) + response * loss(prediction, teacher). The share `mixed` of the images is mixed
    (`mixed`) and has no label: it counts with the teacher alone, whose output stands for the label. With
    `random_target` (TAT, Guo 2019) the two terms become one, smooth L1 to alpha * teacher + (1 - alpha) * label with
    alpha ~ U(0, 1) per sample, from `draws`, and `response` does not matter. `reliability` (Saputra 2019)
    scales each sample's imitation (or alpha) by `reliability_weight`. `feature` adds `feature_loss` per stage; its
    adapters start from the seed of `draws`. The teacher stays in eval mode and never receives a gradient. Raises
    UserError for a stage that one of the networks does not have.
    """
    teacher = teacher.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    feature = kd.feature
    adapters = feature_adapters(feature, student, teacher, draws.initial_seed()) if feature else None
    eta = largest_squared_error(teacher, train, device) if kd.reliability else None
    plain, smooth = loss_of(loss, train.units), loss_of("smooth_l1", train.units)

    def objective(model: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        known = torch.ones(len(images), dtype=torch.bool)
        if kd.mixed > 0:
            images, known = mixed(images, kd.mixed, draws)
        with torch.no_grad():
            taught, teacher_maps = forward(teacher, images, feature is not None)
        predicted, student_maps = forward(model, images, feature is not None)
        if not known.all():
            target = torch.where(sent(known, target.device)[:, None], target, taught)
        trust = torch.ones(len(target), device=target.device)
        if eta is not None:
            trust = reliability_weight(taught, target, eta)
        if kd.random_target:
            alpha = sent(torch.rand(len(target), generator=draws), target.device)
            total = random_target_loss(predicted, taught, target, smooth, alpha * trust)
        else:
            total = response_loss(predicted, taught, target, plain, kd, trust, known)
        if feature:
            # Softmaxes and square roots of bf16 sums would lose what the terms compare.
            with torch.autocast(images.device.type, enabled=False):
                for adapter, stage in zip(adapters, feature.stages, strict=True):
                    total = total + feature_loss(
                        student_maps[stage].float(), teacher_maps[stage].float(), adapter, feature
                    )
        return total

    return objective, adapters


def response_loss(
    predicted: torch.Tensor,
    taught: torch.Tensor,
    target: torch.Tensor,
    loss: Loss,
    kd: KD,
    trust: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """labels * mean over `known` of loss(predicted, target) + response * mean(trust * loss(predicted, taught)).

    Predictions are [B, 2], trust and `known`, whether a sample has a label, [B]; `known` is on the CPU.
    """
    imitation = kd.response * (trust * loss(predicted, taught)).mean()
    errors = loss(predicted, target)
    if known.all():
        return kd.labels * errors.mean() + imitation
    known = sent(known, errors.device)
    return kd.labels * (errors * known).sum() / known.sum().clamp(min=1) + imitation


def mixed(images: torch.Tensor, share: float, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [B, V, H, W], of which about `share` are mixed with another of the batch, w a + (1 - w) b with w ~ U(0, 1)
    (mixup, Zhang et al. 2018, with Beta(1, 1)); and which are not, [B], on the CPU.
    """
    count = len(images)
    chosen = torch.rand(count, generator=draws) < share
    weight, partner = torch.rand(count, generator=draws), torch.randperm(count, generator=draws)
    weight = sent(torch.where(chosen, weight, 1.0), images.device, images.dtype)[:, None, None, None]
    both = torch.lerp(images[sent(partner, images.device)], images, weight)
    return both.contiguous(memory_format=torch.channels_last), ~chosen


def random_target_loss(
    predicted: torch.Tensor, taught: torch.Tensor, target: torch.Tensor, loss: Loss, alpha: torch.Tensor
) -> torch.Tensor:
    """Mean loss to alpha * taught + (1 - alpha) * target, alpha [B] (TAT, Guo 2019; a reconstruction)."""
    return loss(predicted, torch.lerp(target, taught, alpha[:, None])).mean()


def reliability_weight(taught: torch.Tensor, target: torch.Tensor, eta: float) -> torch.Tensor:
    """1 - |taught - target|^2 / eta, not below 0: [B, 2], [B, 2] -> [B] in [0, 1] (Saputra 2019, eq. 6).

    `eta` is the largest squared error of the teacher on its training set; a teacher without errors is
    trusted.
    """
    return 1 - ((taught - target).square().sum(dim=-1) / max(eta, 1e-12)).clamp(max=1)


@torch.inference_mode()
def largest_squared_error(teacher: nn.Module, train: Samples, device: torch.device) -> float:
    """max |teacher(x) - y|^2 over the samples as they are stored, in rad^2 (px^2 over the scale's square)."""
    largest = 0.0
    for images, target in batches(train, evaluation_batch(train)):
        taught = teacher(normalised(to_unit(images, device), train.mean, train.std)).float().cpu()
        largest = max(largest, (taught - target).square().sum(dim=-1).max().item())
    return largest


def feature_adapters(feature: FeatureKD, student: nn.Module, teacher: nn.Module, seed: int) -> nn.ModuleList:
    """One ModuleDict per stage that maps the student's feature maps to the teacher's; trained, never saved.

    `masked` and `non_local` are 1x1 convolutions and `channel` a fully connected layer from the student's
    channels to the teacher's, `spatial` is a 3x3 convolution from one map to one; only those of terms with a
    weight exist.
    """
    ours, theirs = stage_channels(student), stage_channels(teacher)
    for stage in feature.stages:
        if stage >= min(len(ours), len(theirs)):
            raise UserError(
                f"kd.feature.stages: {stage} does not exist in a student of {len(ours)} and a teacher of "
                f"{len(theirs)} stages; use 0 to {min(len(ours), len(theirs)) - 1}"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(
            nn.ModuleDict(_stage_adapters(feature, ours[stage], theirs[stage])) for stage in feature.stages
        )


def feature_loss(
    student: torch.Tensor, teacher: torch.Tensor, adapter: nn.ModuleDict, feature: FeatureKD
) -> torch.Tensor:
    """Weighted masked, attention and non-local terms of one stage after Zhang & Ma (ICLR 2021), a scalar.

    `student` is [B, Cs, h, w], `teacher` [B, Ct, h', w'], which is resized to h x w. The paper's sums are
    means here, and each distance is a root mean square per sample averaged over the batch, so that weights
    keep their meaning with another batch, image size or width. The weights of the paper do not carry over.
    """
    if teacher.shape[-2:] != student.shape[-2:]:
        teacher = F.interpolate(teacher, student.shape[-2:], mode="bilinear", antialias=True)
    total = student.new_zeros(())
    if feature.masked > 0:
        mask = attention_mask(student, teacher, feature.temperature)
        total = total + feature.masked * distance(teacher, adapter["masked"](student), mask)
    if feature.attention > 0:
        channels = distance(teacher.mean(dim=(2, 3)), adapter["channel"](student.mean(dim=(2, 3))))
        places = distance(teacher.mean(dim=1), adapter["spatial"](student.mean(dim=1, keepdim=True)).squeeze(1))
        total = total + feature.attention * (channels + places)
    if feature.non_local > 0:
        relations = distance(non_local(teacher), adapter["non_local"](non_local(student)))
        total = total + feature.non_local * relations
    return total


def attention_mask(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Attention mask of both networks: [B, 1, h, w] of mean 1 per sample, without a gradient.

    h w softmax(mean_c |F| / T) over the places of each sample, averaged over student and teacher.
    """
    return (_spatial_attention(student, temperature) + _spatial_attention(teacher, temperature)).detach() / 2


def non_local(maps: torch.Tensor) -> torch.Tensor:
    """Every place as a mixture of all places by their similarity: [B, C, h, w] -> [B, C, h', w'].

    softmax_j(x_i . x_j / sqrt(C)) x_j: the Gaussian form of Wang et al. (2018) without its learnt embeddings,
    which a distance to the teacher could drive to zero. Maps are averaged to about 256 places first: the cost
    is quadratic.
    """
    height, width = maps.shape[-2:]
    stride = min(height, width, math.ceil(math.sqrt(height * width / NON_LOCAL_POSITIONS)))
    maps = F.avg_pool2d(maps, stride)
    places = maps.flatten(2)
    similarity = places.transpose(1, 2) @ places / math.sqrt(places.shape[1])
    return (places @ similarity.softmax(dim=-1).transpose(1, 2)).reshape(maps.shape)


def distance(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """sqrt(mean(weight * (a - b)^2)) of each sample, averaged over the batch; its gradient at a = b is 0."""
    difference = a - b if weight is None else weight.sqrt() * (a - b)
    flat = difference.flatten(1)
    return torch.linalg.vector_norm(flat, dim=1).mean() / math.sqrt(flat.shape[1])


def _spatial_attention(maps: torch.Tensor, temperature: float) -> torch.Tensor:
    strength = maps.abs().mean(dim=1)
    batch, height, width = strength.shape
    softmax = (strength.flatten(1) / temperature).softmax(dim=1)
    return height * width * softmax.reshape(batch, 1, height, width)


def _stage_adapters(feature: FeatureKD, ours: int, theirs: int) -> dict[str, nn.Module]:
    adapters: dict[str, nn.Module] = {}
    if feature.masked > 0:
        adapters["masked"] = nn.Conv2d(ours, theirs, 1)
    if feature.attention > 0:
        adapters["channel"] = nn.Linear(ours, theirs)
        adapters["spatial"] = nn.Conv2d(1, 1, 3, padding=1)
    if feature.non_local > 0:
        adapters["non_local"] = nn.Conv2d(ours, theirs, 1)
    return adapters
