"""SimViT (Li et al. 2021, arXiv:2112.13085): a vision transformer whose queries look at 3x3 neighbours.

Written afresh from the paper for gaze: any number of input channels, any image size (each stage pads its
input to whole patches), two outputs. Inside a stage, maps are [B, h, w, C]; between stages, [B, C, h, w].
"""

import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.models.network import DropPath, GazeNetwork, scaled, small_output

HEAD_WIDTH = 32
HEADS = (1, 2, 5, 8)
DEPTHS = (2, 3, 3, 2)
MLP_RATIOS = (8, 8, 4, 4)
PATCHES = (4, 2, 2, 2)
MAX_DROP_PATH = 0.2
NEIGHBOURS = [(row, column) for row in range(3) for column in range(3)]


def simvit(width: float, input_shape: tuple[int, int, int]) -> nn.Module:
    """SimViT-micro for `input_shape` [C, H, W]; `width` scales the channels of each attention head.

    3,075,170 parameters and 0.64 G multiply-adds at 1x224x224 and width 1 (the paper: 3.3 M with its head of
    1000 classes, 0.65 G with three channels).
    """
    return SimViT(width, input_shape[0])


class SimViT(GazeNetwork):
    def __init__(self, width: float, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Identity()
        self.stages = ["stage1", "stage2", "stage3", "stage4"]
        drop_rates = torch.linspace(0, MAX_DROP_PATH, sum(DEPTHS)).split(DEPTHS)
        channels = in_channels
        for name, *settings in zip(self.stages, HEADS, MLP_RATIOS, PATCHES, drop_rates, strict=True):
            heads, mlp_ratio, patch, rates = settings
            attention = SelfAttention if name == self.stages[-1] else CentralSelfAttention
            previous, channels = channels, heads * scaled(HEAD_WIDTH, width)
            blocks = [Block(channels, attention(channels, heads), mlp_ratio, rate) for rate in rates.tolist()]
            self.add_module(name, Stage(previous, channels, patch, blocks))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))
        self.apply(_initialise)
        small_output(self.head[-1])


class Stage(nn.Module):
    """Patch embedding, transformer blocks, LayerNorm: [B, C_in, H, W] to [B, C, H/patch, W/patch]."""

    def __init__(self, in_channels: int, channels: int, patch: int, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(in_channels, channels, patch, stride=patch)
        self.embed_norm = nn.LayerNorm(channels)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bottom, right = -x.shape[2] % self.patch, -x.shape[3] % self.patch
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        x = self.embed_norm(self.embed(x).permute(0, 2, 3, 1))
        return self.norm(self.blocks(x)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); training drops a sample's branch at `drop_rate`."""

    def __init__(self, channels: int, attention: nn.Module, mlp_ratio: int, drop_rate: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, channels * mlp_ratio)
        self.drop_path = DropPath(drop_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attention(self.attention_norm(x)))
        return x + self.drop_path(self.mlp(self.mlp_norm(x)))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions of [B, h, w, C]."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        weights = (query * self.scale @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(x.shape))


class CentralSelfAttention(SelfAttention):
    """Each position's query attends to the keys of its zero-padded 3x3 neighbourhood (eq. 3-5).

    Nine shifted products instead of an unfolded copy of keys and values: the same numbers at a fifth of the
    time on a CPU. Padded positions have key and value zero and do take part in the softmax, as in the paper.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, _ = x.shape
        qkv = self.qkv(x)
        # Element-wise products in bfloat16 would be the slowest part under autocast on a CPU.
        qkv = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
        query, key, value = qkv.reshape(batch, height, width, 3, self.heads, -1).unbind(dim=3)
        query = query * self.scale
        keys, values = _neighbours(key), _neighbours(value)
        weights = torch.stack([(query * key).sum(dim=-1) for key in keys], dim=-1).softmax(dim=-1)
        weights_and_values = zip(weights.unbind(dim=-1), values, strict=True)
        mixed = sum(weight.unsqueeze(-1) * value for weight, value in weights_and_values)
        return self.out(mixed.reshape(x.shape))

    def uncounted_macs(self, x: torch.Tensor) -> int:
        """Multiply-adds of query-key and weight-value products, which no operator count can tell from
        scaling."""
        return 2 * len(NEIGHBOURS) * x.numel()


def _neighbours(x: torch.Tensor) -> list[torch.Tensor]:
    """Nine views [B, h, w, heads, d] of the map, shifted by -1, 0, 1 rows and columns, zeros outside."""
    height, width = x.shape[1:3]
    padded = F.pad(x, (0, 0, 0, 0, 1, 1, 1, 1))
    return [padded[:, row : row + height, column : column + width] for row, column in NEIGHBOURS]


class Mlp(nn.Module):
    """Linear, 3x3 depth-wise convolution, GELU, linear on [B, h, w, C]: the convolution carries the
    position."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.depthwise(self.expand(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.reduce(F.gelu(hidden))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
