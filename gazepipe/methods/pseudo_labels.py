"""Pseudo-labels: a trained network labels images of other people once, and the student learns from them, too.

On the images that it was trained on, a teacher says what the labels say. Elsewhere it says what it has learnt (Lee
2013; Xie et al., CVPR 2020; for distillation from few labels Chen et al., NeurIPS 2020).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.common.progress import track
from gazepipe.datasets.store import open_store
from gazepipe.methods.settings import PseudoLabels
from gazepipe.models.settings import Spec
from gazepipe.models.weights import read_metadata
from gazepipe.training.augment import augment
from gazepipe.training.inherit import load_teacher
from gazepipe.training.losses import Objective
from gazepipe.training.method import Kind, Network
from gazepipe.training.samples import (
    Samples,
    batches,
    check_images,
    evaluation_batch,
    normalised,
    samples_of,
    to_unit,
)
from gazepipe.training.settings import Augmentation, Training
from gazepipe.training.transfer import sent


class LearnsPseudoLabels(Kind):
    """The kind `pseudo_labels`: each batch gets `share` images more for each of its own, with the teacher's labels.

    The labels are made before the first step, in fp32, from images that are not augmented. All else is that of the
    objective before: labelled by whom, an image counts the same. There are fewer epochs, so that no more images are
    seen than without.
    """

    settings: PseudoLabels

    def schedule(self, training: Training, cycles: int) -> tuple[Training, int]:
        return training.model_copy(update={"epochs": self.settings.epochs_of(training.epochs)}), cycles

    def objective(self, base: Objective, network: Network) -> Objective:
        context, (_, spec) = self.context, network
        teacher = load_teacher(context.files["teacher"], spec, context.samples)
        teacher = teacher.to(context.device, memory_format=torch.channels_last).eval()
        seen = context.augmentation if self.settings.average else Augmentation(flip=0, pairs=0, shift=0)
        pool = [
            Labelled(some, labels(teacher, some, seen, context.device))
            for some in unlabelled(context.unlabelled, context.files["teacher"], spec, context.samples)
        ]

        def objective(model: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            count = max(1, round(self.settings.share * len(images)))
            more, taught = drawn(pool, context.augmentation, count, self.draws, images.device)
            images = torch.cat([images, more]).contiguous(memory_format=torch.channels_last)
            return base(model, images, torch.cat([target, taught.to(target.dtype)]))

        return objective


@dataclass(frozen=True)
class Labelled:
    """Samples, and the label [n, 2] that a network gave to each, in the unit that networks learn."""

    samples: Samples
    label: torch.Tensor


def unlabelled(stores: Sequence[Path], teacher: Path, spec: Spec, train: Samples) -> list[Samples]:
    """The images of data sets whose labels are not used, all subjects, seen as those of `train` are.

    Raises UserError for images that the student, or the teacher in the file `teacher`, does not take.
    """
    found = []
    for path in stores:
        store = open_store(path)
        check_images(store, spec["input"], read_metadata(teacher)["patch"])
        found.append(replace(samples_of(store, None), mean=train.mean, std=train.std))
    return found


@torch.inference_mode()
def labels(teacher: nn.Module, samples: Samples, augmentation: Augmentation, device: torch.device) -> torch.Tensor:
    """The teacher's output for each sample, [n, 2] in the unit that networks learn: the mean over `views`."""
    found, size = [], evaluation_batch(samples)
    steps = -(-len(samples) // size)
    for images, _ in track(batches(samples, size), "label images", steps, "batch"):
        seen = normalised(to_unit(images, device), samples.mean, samples.std)
        outputs = [_output(teacher, view, mirrored) for view, mirrored in views(seen, augmentation)]
        found.append(torch.stack(outputs).mean(dim=0).cpu())
    return torch.cat(found)


def views(images: torch.Tensor, augmentation: Augmentation) -> Iterator[tuple[torch.Tensor, bool]]:
    """Images [B, V, H, W] as they are and moved by `shift` of their width right, left, down and up, edges repeated;
    each also mirrored, which is told, where mirror images are samples (`flip` above 0).
    """
    reach = round(augmentation.shift * images.shape[-1])
    moves = [(0, 0)] + [(reach, 0), (-reach, 0), (0, reach), (0, -reach)] * (reach > 0)
    for x, y in moves:
        seen = moved(images, x, y)
        yield seen, False
        if augmentation.flip > 0:
            yield seen.flip(-1), True


def moved(images: torch.Tensor, x: int, y: int) -> torch.Tensor:
    """Images [B, V, H, W] moved right by `x` and down by `y` pixels; edges repeat."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (max(x, 0), max(-x, 0), max(y, 0), max(-y, 0)), mode="replicate")
    top, left = max(-y, 0), max(-x, 0)
    return padded[..., top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)


def drawn(
    pool: Sequence[Labelled],
    augmentation: Augmentation,
    count: int,
    draws: torch.Generator,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` images [count, V, H, W] of the pool, with replacement, each as likely, augmented and normalised, and
    their labels [count, 2], on the device.
    """
    starts = np.cumsum([0, *(len(some.label) for some in pool)])
    chosen = torch.randint(int(starts[-1]), (count,), generator=draws).sort().values.numpy()
    places = [chosen[(chosen >= start) & (chosen < end)] - start for start, end in pairwise(starts)]
    parts = [some.samples.images[some.samples.rows[own]] for some, own in zip(pool, places, strict=True)]
    label = torch.cat([some.label[torch.from_numpy(own)] for some, own in zip(pool, places, strict=True)])
    images = to_unit(sent(torch.from_numpy(np.concatenate(parts)), device), device)
    images, label = augment(images, sent(label, device), augmentation, draws)
    return normalised(images, pool[0].samples.mean, pool[0].samples.std), label


def _output(teacher: nn.Module, images: torch.Tensor, mirrored: bool) -> torch.Tensor:
    output = teacher(images).float()
    return output * output.new_tensor([1.0, -1.0]) if mirrored else output
