"""Controls that are trained, or made, like a network that learns, and cannot learn the gaze."""

from dataclasses import replace

import torch
from torch import nn

from gazepipe.methods.settings import Placebo
from gazepipe.training.method import Kind, Network, Recover
from gazepipe.training.samples import Samples, batches, evaluation_batch, normalised, to_unit
from gazepipe.training.settings import Training

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


class CannotLearn(Kind):
    """The kind `placebo`.

    `shuffled_labels`: the targets of the training samples are permuted, once, by `draws`. All else is as without it,
    the choice of the epoch by the validation subjects' true labels, too. What such a network reaches is due to the
    distribution of the labels alone (Zhang et al., ICLR 2017).

    `nothing`: no step is taken. The batch statistics of a fresh network (mean 0, variance 1) are not those of its
    activations, and it would be judged in eval mode by numbers of no meaning; so they are estimated first, see
    `take_statistics`.
    """

    settings: Placebo

    def start(self, network: Network, recover: Recover) -> Network:
        if self.settings.learns == "nothing":
            take_statistics(network[0].to(self.context.device), self.context.samples, self.context.device, self.draws)
        return network

    def schedule(self, training: Training, cycles: int) -> tuple[Training, int]:
        return training, 0 if self.settings.learns == "nothing" else cycles

    def samples(self, samples: Samples) -> Samples:
        if self.settings.learns == "nothing":
            return samples
        order = torch.randperm(len(samples), generator=self.draws).numpy()
        return replace(samples, target=samples.target[order])


@torch.no_grad()
def take_statistics(model: nn.Module, samples: Samples, device: torch.device, draws: torch.Generator) -> None:
    """Set the statistics of every batch normalisation, in place, to the mean of those of the batches of one pass over
    the samples, in an order of `draws`, without augmentation. No weight changes; the model is left in eval mode.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, NORMS) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative mean
        norm.train()
    order = torch.randperm(len(samples), generator=draws).numpy()
    for images, _ in batches(samples, evaluation_batch(samples), order):
        model(normalised(to_unit(images, device), samples.mean, samples.std))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
