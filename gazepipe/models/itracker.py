"""itracker4: four near-eye images, one convolutional tower for each, to the gaze point in the scene image.

The towers are iTracker's (Krafka et al., CVPR 2016), the rest is that of the near-eye system which this project
compresses.
"""

import torch
import torch.nn.functional as F
from torch import nn

from gazepipe.errors import UserError
from gazepipe.models.network import LocalNorm, small_output

VIEWS = 4
RIGHT_EYE = (2, 3)
CHANNELS = (32, 64, 32, 16, 8)
"""Of the five convolutions of a tower at width 1."""
DIMENSIONS = 128
HIDDEN = 64
SMALLEST = 131
"""Height and width in px below which nothing is left of a tower's map."""

OUTPUTS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "none": nn.Identity}
EMBEDDINGS = {"none": nn.Identity, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class ITracker4(nn.Module):
    """`head(embed(x))`: images [B, 4, H, W], normalised, to the gaze point [B, 2] in units of `target_scale`.

    `towers` holds one Tower for each image or, if weights are shared between the eyes, one for each camera of an
    eye: images 0 and 2, and 1 and 3, whose right eye is mirrored so that the nose is on the same side.
    """

    def __init__(
        self, towers: list["Tower"], sizes: list[int], dimensions: int, rank: int | None, output: str, embedding: str
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.first = TowerSum(sizes, dimensions, rank)
        self.activation = EMBEDDINGS[embedding]()
        last = small_output(nn.Linear(HIDDEN, 2))
        if output != "sigmoid":
            nn.init.constant_(last.bias, 0.5)  # the middle of the scene, where a ReLU has a gradient
        self.head = nn.Sequential(nn.Linear(dimensions, HIDDEN), nn.ReLU(), last, OUTPUTS[output]())

    def tower_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The four towers' maps [B, C, h, w], each the way round of its image."""
        maps = []
        for view in range(VIEWS):
            mirrored = view in RIGHT_EYE and len(self.towers) < VIEWS
            image = x[:, view : view + 1]
            image = image.flip(3) if mirrored else image
            # Channels last also where the caller's images are not: max-pooling is then several times faster.
            seen = self.towers[view % len(self.towers)](image.contiguous(memory_format=torch.channels_last))
            maps.append(seen.flip(3) if mirrored else seen)
        return maps

    def tower_features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the first fully connected layer reads: four [B, C * h * w]."""
        return [seen.flatten(1) for seen in self.tower_maps(x)]

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """The embedding [B, E]: the output of the first fully connected layer behind its activation."""
        return self.activation(self.first(self.tower_features(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 4, H, W], normalised, to the gaze point [B, 2]."""
        return self.head(self.embed(x))


class Tower(nn.Module):
    """One image [B, 1, H, W] to a map [B, C, h, w], by five convolutions of so many `channels`.

    Max-pooling and the activation before it are written in the other order, which is the same and cheaper. Without
    pooling, strides of the convolutions take its place, centred on the pooled windows.
    """

    def __init__(self, channels: list[int], pool: bool) -> None:
        super().__init__()
        first, second, third, fourth, fifth = channels
        self.pool = pool
        self.conv1 = nn.Conv2d(1, first, 11, stride=4 if pool else 8)
        self.norm1 = LocalNorm(range(first))
        self.conv2 = nn.Conv2d(first, second, 5, stride=1 if pool else 2, padding=2 if pool else 1, groups=2)
        self.norm2 = LocalNorm(range(second))
        self.conv3 = nn.Conv2d(second, third, 5, stride=2, padding=1)
        self.conv4 = nn.Conv2d(third, fourth, 3)
        self.conv5 = nn.Conv2d(fourth, fifth, 1)
        for convolution in self.convolutions():
            nn.init.kaiming_normal_(convolution.weight)
            nn.init.zeros_(convolution.bias)

    def convolutions(self) -> list[nn.Conv2d]:
        """The five convolutions, first to last."""
        return [self.conv1, self.conv2, self.conv3, self.conv4, self.conv5]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(F.leaky_relu(self._pooled(self.conv1(x if self.pool else x[..., 4:-4, 4:-4]))))
        x = self.norm2(F.leaky_relu(self._pooled(self.conv2(x))))
        x = F.leaky_relu(self.conv3(x))
        return F.relu(self.conv5(F.relu(self.conv4(x))))

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 3, 2) if self.pool else x


class TowerSum(nn.Module):
    """A fully connected layer [B, sum of sizes] to [B, out], as a sum of one nn.Linear for each tower.

    With a `rank` the towers' layers lead to [B, rank], and `mix` from there to [B, out]. One bias for all.
    """

    def __init__(self, sizes: list[int], out: int, rank: int | None) -> None:
        super().__init__()
        self.terms = nn.ModuleList(nn.Linear(size, rank or out, bias=False) for size in sizes)
        self.mix = nn.Linear(rank, out, bias=False) if rank else nn.Identity()
        self.bias = nn.Parameter(torch.zeros(out))
        for term in self.terms:
            nn.init.normal_(term.weight, std=sum(sizes) ** -0.5)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return self.mix(sum(term(x) for term, x in zip(self.terms, features, strict=True))) + self.bias


def itracker4(
    width: float = 1.0,
    input_shape: tuple[int, int, int] = (VIEWS, 576, 720),
    *,
    output: str = "sigmoid",
    embedding: str = "none",
    shared: bool = False,
    pool: bool = True,
    dimensions: int = DIMENSIONS,
    rank: int | None = None,
) -> ITracker4:
    """The network for images of `input_shape` (4, H, W) px, both at least 131.

    `output` (sigmoid, relu, none) and `embedding` (none, tanh, sigmoid) are the activations of the gaze point and of
    the embedding; `shared` gives both eyes the same towers; `pool=False` builds the tower of the same output size
    without max-pooling; `dimensions` is the size of the embedding; `rank` that of the factors of the first fully
    connected layer (None: not factored). What pruning leaves of the towers is described by the spec's `channels`.
    Raises UserError for a value out of these.
    """
    for name, value, known in (("output", output, OUTPUTS), ("embedding", embedding, EMBEDDINGS)):
        if value not in known:
            raise UserError(f"model itracker4: {name} is {value!r}; use one of {', '.join(known)}")
    for name, value in (("shared", shared), ("pool", pool)):
        if not isinstance(value, bool):
            raise UserError(f"model itracker4: {name} is {value!r}; use true or false")
    for name, value in (("dimensions", dimensions), ("rank", 1 if rank is None else rank)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"model itracker4: {name} is {value!r}; use a whole number above 0")
    if rank is not None and rank > dimensions:
        raise UserError(f"model itracker4: rank {rank} exceeds the {dimensions} dimensions; use at most as many")
    channels = tower_channels(width)
    towers = [Tower(channels, pool) for _ in range(VIEWS // 2 if shared else VIEWS)]
    sizes = [flat_size(channels[-1], input_shape)] * VIEWS
    return ITracker4(towers, sizes, dimensions, rank, output, embedding)


def tower_channels(width: float = 1.0) -> list[int]:
    """The channels of a tower's five convolutions, even numbers, since the second has two groups."""
    return [max(2, 2 * round(channels * width / 2)) for channels in CHANNELS]


def flat_size(channels: int, input_shape: tuple[int, int, int]) -> int:
    """The number of features that each image gives; UserError for images that are too small."""
    views, height, width = input_shape
    if views != VIEWS or min(height, width) < SMALLEST:
        size = "x".join(map(str, input_shape))
        raise UserError(f"model itracker4: input is {size}; use 4 images of {SMALLEST} px or more each way")
    return channels * _map_side(height) * _map_side(width)


def _map_side(pixels: int) -> int:
    first = (pixels - 19) // 8 + 1  # 11x11 in steps of 4, then 3x3 in steps of 2
    second = (first - 3) // 2 + 1
    return (second + 2 - 5) // 2 + 1 - 2
