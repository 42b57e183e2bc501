"""Residual networks for gaze: the standard ResNet-18 and a short wide one, for any number of channels."""

import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.network import GazeNetwork, scaled, small_output

LEAK = 0.01
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def resnet18(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    """ResNet-18 (He et al. 2016) with a 7x7 stride-2 stem for `input_shape` [C, H, W] and a linear head.

    11,171,266 parameters and 1.74 G multiply-adds at 1x224x224 and width 1.
    """
    return ResNet18(width, input_shape[0])


def resnet10_wide(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    """Four wide residual blocks on a full-resolution 3x3 stem, and a head that keeps a coarse map of places.

    1,656,690 parameters and 2.15 G multiply-adds at 1x224x224 and width 1. The head's first layer depends on
    the image size. Raises UserError for images under 16x16.
    """
    return ResNet10Wide(width, input_shape)


class ResNet18(GazeNetwork):
    def __init__(self, width: float, in_channels: int) -> None:
        super().__init__()
        self.stages = list(STAGES)
        c1, c2, c3, c4 = (scaled(channels, width) for channels in (64, 128, 256, 512))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c1, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(c1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stage1 = nn.Sequential(BasicBlock(c1, c1, 1), BasicBlock(c1, c1, 1))
        self.stage2 = nn.Sequential(BasicBlock(c1, c2, 2), BasicBlock(c2, c2, 1))
        self.stage3 = nn.Sequential(BasicBlock(c2, c3, 2), BasicBlock(c3, c3, 1))
        self.stage4 = nn.Sequential(BasicBlock(c3, c4, 2), BasicBlock(c4, c4, 1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c4, 2))
        he_initialise(self, "relu")
        small_output(self.head[-1])


class BasicBlock(nn.Module):
    """relu(x + conv-BN-relu-conv-BN(x)); a strided 1x1 conv with BN on the skip where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.body(x) + self.skip(x))


class ResNet10Wide(GazeNetwork):
    def __init__(self, width: float, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        in_channels, height, width_px = input_shape
        map_height, map_width = height // 16, width_px // 16
        if min(map_height, map_width) < 1:
            raise UserError(f"resnet10_wide: image size {height}x{width_px} is too small; use at least 16x16")
        self.stages = list(STAGES)
        c1, c2, c3, c4 = (scaled(channels, width) for channels in (64, 128, 128, 256))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c1, 3, padding=1), nn.LeakyReLU(LEAK), nn.BatchNorm2d(c1), nn.MaxPool2d(2)
        )
        self.stage1 = WideBlock(c1, c1)
        self.stage2 = nn.Sequential(nn.MaxPool2d(2), WideBlock(c1, c2))
        self.stage3 = nn.Sequential(nn.MaxPool2d(2), WideBlock(c2, c3))
        self.stage4 = nn.Sequential(nn.MaxPool2d(2), WideBlock(c3, c4))
        # Small images leave a map smaller than the 2x3 window: pool over what is there.
        window = (min(2, map_height), min(3, map_width))
        places = (map_height // window[0]) * (map_width // window[1])
        self.head = nn.Sequential(
            nn.AvgPool2d(window),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(c4 * places, 16),
            nn.Dropout(0.3),
            nn.Linear(16, 2),
        )
        he_initialise(self, "leaky_relu")
        small_output(self.head[-1])


class WideBlock(nn.Module):
    """relu(conv-LeakyReLU-BN-conv-BN(x) + conv1x1-LeakyReLU-BN(x)), every convolution with a bias.

    The padding is explicit: fvcore does not count convolutions with padding="same".
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            nn.LeakyReLU(LEAK),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )
        self.skip = nn.Sequential(nn.Conv2d(in_channels, channels, 1), nn.LeakyReLU(LEAK), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def he_initialise(network: nn.Module, nonlinearity: str) -> None:
    """Kaiming-normal convolutions (He et al. 2015, fan-out) with zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=LEAK, mode="fan_out", nonlinearity=nonlinearity)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
