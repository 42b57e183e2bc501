"""What networks share: an image goes through a stem, named stages and a head; and layers that torch has not."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

LRN_REACH, LRN_ALPHA = 2, 1e-4 / 5


class GazeNetwork(nn.Module):
    """A network made of `stem`, the submodules named in `stages`, in order, and `head`.

    The output of each stage is a feature map [B, C, h, w]; `head` turns the last one into [B, 2], pitch and
    yaw in radians. A network of one's own may subclass this, or be any module with the same `features`,
    `head`, `stages`.
    """

    stages: list[str]
    stem: nn.Module
    head: nn.Module

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, C, H, W] to the feature maps of all stages, first stage first."""
        x = self.stem(x)
        maps = []
        for name in self.stages:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W], normalised, to (pitch, yaw) [B, 2] in radians."""
        return self.head(self.features(x)[-1])


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): training drops a sample's branch [B, ...] at `rate`; the mean over draws is
    the branch itself.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        kept = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) < keep
        return branch * (kept / keep).to(branch.dtype)


class LocalNorm(nn.Module):
    """x / (1 + 1e-4/5 * sum of x^2 over channels at most 2 positions away)^0.75: [B, C, H, W] to the same.

    With all channels it is nn.LocalResponseNorm(5, 1e-4, 0.75, 1). `positions` are the channels' places before
    pruning: neighbours stay those of the unpruned layer, so that taking silent channels out changes nothing. The sum
    is a product with a band matrix, several times faster on a CPU than torch's pooling over channels.
    """

    def __init__(self, positions: Iterable[int]) -> None:
        super().__init__()
        self.positions = list(positions)
        place = torch.tensor(self.positions)
        near = (place[:, None] - place[None]).abs() <= LRN_REACH
        self.register_buffer("band", LRN_ALPHA * near.float()[:, :, None, None], persistent=False)

    def keep(self, positions: list[int]) -> None:
        """Leave only the channels at these of the layer's `positions`, in place."""
        index = [self.positions.index(position) for position in positions]
        self.band, self.positions = self.band[index][:, index], list(positions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        root = (1 + F.conv2d(x * x, self.band)).rsqrt()
        return x * (root * root.sqrt())


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8 and never below 8."""
    return max(8, 8 * round(channels * width / 8))


def small_output(linear: nn.Linear) -> nn.Linear:
    """Initialise the last layer so that an untrained network looks almost straight ahead; return it."""
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear
