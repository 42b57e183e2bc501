"""Structural pruning in steps, with training between them in which the network recovers."""

from functools import partial

import torch

from gazepipe.methods.settings import Structural
from gazepipe.methods.structural.prune import prune, schedule
from gazepipe.training.losses import loss_of, supervised
from gazepipe.training.method import Kind, Network, Recover
from gazepipe.training.samples import judged

JUDGED = 256
"""Images that tell which channels matter; more change the ranking little."""


class Pruning(Kind):
    """The kind `structural`: the network is pruned `steps` times, with `epochs` of training after each but the last.

    Channels are judged on samples of the training subjects. Deterministic. Raises UserError as `prune` does.
    """

    settings: Structural

    def start(self, network: Network, recover: Recover) -> Network:
        *others, last = schedule(self.settings.ratio, self.settings.steps)
        for step, ratio in enumerate(others, 1):
            network = recover(f"step{step}", partial(self.pruned, network, ratio), self.settings.epochs)
        return self.pruned(network, last)

    def pruned(self, network: Network, ratio: float) -> Network:
        """A smaller copy of the network, with about `ratio` of the full one's cost."""
        (model, spec), settings, context = network, self.settings, self.context
        images, target = judged(context.samples, JUDGED, torch.device("cpu"))
        objective = supervised(loss_of(context.training.loss, context.samples.units))
        return prune(
            model.cpu(),
            spec,
            images,
            target,
            objective,
            target=settings.target,
            ratio=ratio,
            criterion=settings.criterion,
            scope=settings.scope,
            round_to=settings.round_to,
        )
