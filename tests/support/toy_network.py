"""A network with every kind of layer that exporting must get right, small enough to be exported in a second."""

import math

import torch
from torch import nn

from gazepipe.models.registry import build


class ToyNetwork(nn.Module):
    """Convolutions with and without batch normalisation, a sum, a pool and a linear layer: [B, C, H, W] to [B, 2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(torch.relu(x + self.body(x)))


def toy_network(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    """As a user's own network is built."""
    return ToyNetwork(input_shape[0])


def lively_network(spec: dict, seed: int = 0) -> nn.Module:
    """The network of a spec in eval mode, untrained, whose predictions differ from sample to sample."""
    torch.manual_seed(seed)
    model = build(spec)
    model.train()(torch.randn(64, *spec["input"]))  # leaves the statistics of a fresh network behind
    nn.init.normal_(model.head[-1].weight, std=0.1)
    return model.eval()


def forgetful(width: float, input_shape: tuple[int, int, int]) -> torch.nn.Module:
    """A network that draws from torch's own generator in every step."""
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(math.prod(input_shape), 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
    )
