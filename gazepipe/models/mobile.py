"""mobile_gaze: a network for a phone's processor that keeps its eye on where things are."""

import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.network import GazeNetwork, scaled, small_output
from gazepipe.models.resnet import he_initialise

CHANNELS = (16, 32, 64, 64)
"""Of the four stages at width 1."""
PLACES = 14
"""Rows and columns, at most, of the map that the head reads."""


def mobile_gaze(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    return MobileGaze(width, input_shape)


class MobileGaze(GazeNetwork):
    def __init__(
        self,
        width: float,
        input_shape: tuple[int, int, int],
        kernel: int = 5,
        expand: int = 3,
        head: str = "flat",
        seen: int = 16,
        hidden: int = 32,
        channels=CHANNELS,
        dropout=0.0,
        down4=1,
        e1=1,
    ) -> None:
        super().__init__()
        in_channels, height, width_px = input_shape
        self.stages = ["stage1", "stage2", "stage3", "stage4"]
        c1, c2, c3, c4 = (scaled(number, width) for number in channels)
        self.stem = nn.Sequential(*convolution(in_channels, c1, 3, stride=2), nn.ReLU(inplace=True))
        self.stage1 = Bottleneck(c1, c1, 3, 1, e1)
        self.stage2 = nn.Sequential(Bottleneck(c1, c2, kernel, 2, expand), Bottleneck(c2, c2, kernel, 1, expand))
        self.stage3 = nn.Sequential(Bottleneck(c2, c3, kernel, 2, expand), Bottleneck(c3, c3, kernel, 1, expand))
        self.stage4 = Bottleneck(c3, c4, kernel, down4, expand)
        if head == "gap":
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c4, 2))
        else:
            rows, columns = (-(-side // (8 * down4)) for side in (height, width_px))
            window = (-(-rows // PLACES), -(-columns // PLACES))
            places = (rows // window[0]) * (columns // window[1])
            self.head = nn.Sequential(
                nn.AvgPool2d(window),
                *convolution(c4, seen, 1),
                nn.ReLU(inplace=True),
                nn.Flatten(),
                nn.Dropout(dropout),
                nn.Linear(seen * places, hidden),
                nn.ReLU(inplace=True),
                nn.Linear(hidden, 2),
            )
        he_initialise(self, "relu")
        small_output(self.head[-1])


class Bottleneck(nn.Module):
    """Inverted residual (Sandler et al. 2018): 1x1 to more channels, k x k depth-wise, 1x1 back, with ReLU between."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = expand * in_channels
        layers = [*convolution(in_channels, hidden, 1), nn.ReLU(inplace=True)] if expand > 1 else []
        self.body = nn.Sequential(
            *layers,
            *convolution(hidden, hidden, kernel, stride=stride, groups=hidden),
            nn.ReLU(inplace=True),
            *convolution(hidden, channels, 1),
        )
        self.keeps_shape = stride == 1 and in_channels == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.keeps_shape else self.body(x)


def convolution(in_channels: int, channels: int, kernel: int, **settings: int) -> list[nn.Module]:
    """A convolution that keeps the map's size, but for its stride, and its batch norm."""
    return [
        nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False, **settings),
        nn.BatchNorm2d(channels),
    ]
