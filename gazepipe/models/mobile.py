"""mobile_gaze: a small network for mobile processors that keeps spatial resolution."""

import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.network import GazeNetwork, scaled, small_output
from gazepipe.models.resnet import he_initialise

CHANNELS = (16, 32, 64, 64)
"""Of the four stages at width 1."""
KERNEL = 5
EXPANSION = 3
STRIDE = 8
"""Pixels of the image from one place of the last map to the next."""
PLACES = 14
"""Rows and columns, at most, of the map that the head reads."""
SEEN = 16
HIDDEN = 32


def mobile_gaze(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    """A student of at most 0.3 M parameters and 30 M multiply-adds for images of up to 1x112x112.

    187,570 parameters and 28.9 M multiply-adds at 1x112x112 and width 1. It is shaped so because:

    - Gaze is the place of the iris within the eye, to a fraction of a pixel: the map is halved three times only
      (in classifiers five times) and stays at 1/8 to the end; most multiply-adds are spent at 1/4 and 1/8.
    - An inverted residual with a depth-wise convolution (MobileNetV2, Sandler et al. 2018) costs less than half of
      a ResNet block of the same width; its narrow ends are linear. It sees 5x5 pixels: at these widths that adds an
      eighth to the cost of 3x3, and stands in for layers that the short network does not have.
    - ReLU, and no squeeze-and-excitation: a u8 activation then has all its steps above zero, the ReLU is fused
      into the convolution before it, and no scale depends on the whole image.
    - The head does not average over places. It reads a map of at most 14x14 places, 16 channels of each, with
      weights of its own for each place: pitch and yaw are about where something is.

    The head's first layer depends on the image size. Raises UserError for images under 8x8.
    """
    return MobileGaze(width, input_shape)


class MobileGaze(GazeNetwork):
    def __init__(self, width: float, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        in_channels, height, width_px = input_shape
        if min(height, width_px) < STRIDE:
            raise UserError(f"mobile_gaze: image size {height}x{width_px} is too small; use at least 8x8")
        self.stages = ["stage1", "stage2", "stage3", "stage4"]
        c1, c2, c3, c4 = (scaled(channels, width) for channels in CHANNELS)
        self.stem = nn.Sequential(*convolution(in_channels, c1, 3, stride=2), nn.ReLU(inplace=True))
        self.stage1 = Bottleneck(c1, c1, kernel=3, expansion=1)
        self.stage2 = nn.Sequential(Bottleneck(c1, c2, stride=2), Bottleneck(c2, c2))
        self.stage3 = nn.Sequential(Bottleneck(c2, c3, stride=2), Bottleneck(c3, c3))
        self.stage4 = Bottleneck(c3, c4)
        sides = [-(-side // STRIDE) for side in (height, width_px)]
        window = [-(-side // PLACES) for side in sides]
        places = (sides[0] // window[0]) * (sides[1] // window[1])
        self.head = nn.Sequential(
            nn.AvgPool2d(tuple(window)),
            *convolution(c4, SEEN, 1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(SEEN * places, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, 2),
        )
        he_initialise(self, "relu")
        small_output(self.head[-1])


class Bottleneck(nn.Module):
    """Inverted residual: 1x1 to `expansion` times the channels, depth-wise, linear 1x1; plus x where shapes agree."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int = KERNEL, stride: int = 1, expansion: int = EXPANSION
    ) -> None:
        super().__init__()
        hidden = expansion * in_channels
        widened = [*convolution(in_channels, hidden, 1), nn.ReLU(inplace=True)] if expansion > 1 else []
        self.body = nn.Sequential(
            *widened,
            *convolution(hidden, hidden, kernel, stride=stride, groups=hidden),
            nn.ReLU(inplace=True),
            *convolution(hidden, channels, 1),
        )
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def convolution(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution, padded to keep the size of the map but for its stride, and its batch norm."""
    settings = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
    return [nn.Conv2d(in_channels, channels, kernel, **settings), nn.BatchNorm2d(channels)]
