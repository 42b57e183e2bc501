"""Attribution maps of the gaze point over the four images, and the sanity check of these maps.

A network has two outputs: each attribution is taken for x and y in pixels, and a map is their Euclidean norm.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam
from torch import nn

from gazepipe.common.progress import track
from gazepipe.models.itracker import ITracker4
from gazepipe.models.registry import build
from gazepipe.near_eye.explain.importance import rank_correlation

METHODS = ("gradient", "integrated_gradients", "grad_cam")
VIEWS = ("left eye, camera 0", "left eye, camera 1", "right eye, camera 3", "right eye, camera 4")
OUTPUTS = (0, 1)
STEPS = 12
SANITY_STEPS = 3
SANITY_LIMIT = 0.5
"""Spearman correlation that attributions of a random network may have with those of the trained one."""
GROUPS = {
    "head": ("head.",),
    "+ first FC": ("first.",),
    "+ last 3 convolutions": ("conv3.", "conv4.", "conv5."),
    "+ all": ("conv1.", "conv2."),
}
"""Cascading randomisation, from the top: the name of each step, and what marks the weights that it adds."""
LAST_STEP = list(GROUPS)[-1]
INNER_BATCH = 8
COARSE = 4
EVERY = 3
"""Of the pixels of a row and of a column, for rank correlations."""
PEAK_SHARE = 0.05


class Tapped(nn.Module):
    """An itracker4 that gives pixels, in two parts: towers, and what comes after their maps."""

    def __init__(self, model: ITracker4, scale: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.above = Above(model, scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.above(*self.model.tower_maps(x))


class Above(nn.Module):
    """The towers' maps to gaze points [n, 2] in pixels, with a module at each map for captum to hold on to."""

    def __init__(self, model: ITracker4, scale: torch.Tensor) -> None:
        super().__init__()
        self.model, self.scale = model, scale
        self.taps = nn.ModuleList(nn.Identity() for _ in VIEWS)

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        features = [tap(seen).flatten(1) for tap, seen in zip(self.taps, maps, strict=True)]
        return self.model.head(self.model.activation(self.model.first(features))) * self.scale


def attributions(network: Tapped, x: torch.Tensor, method: str, steps: int = STEPS) -> torch.Tensor:
    """Signed attributions [n, 2, V, H, W] in pixels of gaze point of normalised images x [n, V, H, W].

    `gradient` is per unit of normalised brightness; `integrated_gradients` (Sundararajan et al. 2017) starts from
    an even image of mean brightness and sums to the way the gaze point moves from there; `grad_cam` (Selvaraju et
    al. 2017) weighs each tower's last map and stretches it over the image.
    """
    compute = {"gradient": _gradient, "integrated_gradients": _integrated, "grad_cam": _grad_cam}[method]
    parts = [compute(network, x, output, steps).detach().cpu() for output in OUTPUTS]
    return torch.stack(parts, dim=1).float()


def strength(attribution: torch.Tensor) -> np.ndarray:
    """Attributions [n, 2, V, H, W] of the two outputs to a map [n, V, H, W]: their Euclidean norm."""
    return torch.linalg.vector_norm(attribution, dim=1).numpy()


def completeness_px(network: Tapped, x: torch.Tensor, attribution: torch.Tensor) -> float:
    """The largest distance in pixels between what integrated gradients sum to and how far the gaze point moved."""
    with torch.no_grad():
        moved = (network(x) - network(torch.zeros_like(x))).cpu()
    return float(torch.linalg.vector_norm(attribution.sum(dim=(2, 3, 4)) - moved, dim=1).max())


def describe(maps: np.ndarray) -> list[dict]:
    """One row per sample and view of maps [n, V, H, W].

    `share` of the sample's attribution, its centre of mass `center_x`, `center_y` and root mean square distance
    from there `spread` in pixels, and `peak`, the part of the view's attribution in its strongest 5 % of pixels.
    """
    y, x = np.mgrid[: maps.shape[2], : maps.shape[3]]
    rows = []
    for number, sample in enumerate(maps.astype(np.float64)):
        total = max(sample.sum(), 1e-300)
        for view, seen in enumerate(sample):
            mass = max(seen.sum(), 1e-300)
            center_x, center_y = (seen * x).sum() / mass, (seen * y).sum() / mass
            spread = np.sqrt((seen * ((x - center_x) ** 2 + (y - center_y) ** 2)).sum() / mass)
            strongest = np.sort(seen, axis=None)[-max(1, round(PEAK_SHARE * seen.size)) :]
            rows.append(
                {
                    "number": number,
                    "view": view,
                    "share": seen.sum() / total,
                    "center_x": center_x,
                    "center_y": center_y,
                    "spread": spread,
                    "peak": strongest.sum() / mass,
                }
            )
    return rows


def sanity(
    network: Tapped, spec: dict, x: torch.Tensor, seed: int
) -> tuple[list[dict], dict[str, dict[str, np.ndarray]]]:
    """Whether attributions change when the weights are randomised (Adebayo et al. 2018).

    The weights of `network`, built from `spec`, are replaced by newly initialised ones, from the head down (GROUPS).
    Returns rows {"method", "step", "signed", "strength", "ssim"}, means over the samples x: likeness to the trained
    network by Spearman's correlation of the attributions with their sign, by that of the maps, which have none, and by
    the maps' SSIM; and the coarse maps themselves, {step: {method: [n, V, h, w]}}, "trained" first. As in the paper,
    the second stays high where a map mostly shows the image or the network's architecture.
    """
    fresh = _fresh_weights(spec, seed)
    state = {name: value.clone() for name, value in network.model.state_dict().items()}
    trained = dict(state)
    first = _all_attributions(network, x)
    rows, maps = [], {"trained": _coarse(first)}
    for step, marks in track(GROUPS.items(), "sanity of the heat maps", len(GROUPS)):
        state.update({name: value for name, value in fresh.items() if any(mark in name for mark in marks)})
        network.model.load_state_dict(state)
        now = _all_attributions(network, x)
        maps[step] = _coarse(now)
        rows += [
            {
                "method": method,
                "step": step,
                "signed": _likeness(first[method].flatten(0, 1), now[method].flatten(0, 1)),
                "strength": _likeness(first[method].norm(dim=1), now[method].norm(dim=1)),
                "ssim": _mean_ssim(maps["trained"][method], maps[step][method]),
            }
            for method in METHODS
        ]
    network.model.load_state_dict(trained)
    return rows, maps


def verdict(rows: list[dict]) -> dict[str, bool]:
    """{method: whether its attributions are others (signed likeness below SANITY_LIMIT) with all weights random}."""
    return {row["method"]: row["signed"] < SANITY_LIMIT for row in rows if row["step"] == LAST_STEP}


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two images [h, w] in 0-1, 11 x 11 Gaussian window (Wang et al. 2004)."""
    mean_a, mean_b = _window(a), _window(b)
    var_a, var_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    both = _window(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    return float((luminance * (2 * both + 9e-4) / (var_a + var_b + 9e-4)).mean())


def _gradient(network: Tapped, x: torch.Tensor, output: int, _: int) -> torch.Tensor:
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(network(x)[:, output].sum(), x)[0]


def _integrated(network: Tapped, x: torch.Tensor, output: int, steps: int) -> torch.Tensor:
    method = IntegratedGradients(network)
    return method.attribute(x, target=output, n_steps=steps, internal_batch_size=max(INNER_BATCH, len(x)))


def _grad_cam(network: Tapped, x: torch.Tensor, output: int, _: int) -> torch.Tensor:
    with torch.no_grad():
        maps = tuple(network.model.tower_maps(x))

    def of_view(tap: nn.Module) -> torch.Tensor:
        small = LayerGradCam(network.above, tap).attribute(maps, target=output)
        return LayerAttribution.interpolate(small, tuple(x.shape[2:]), "bilinear")[:, 0]

    return torch.stack([of_view(tap) for tap in network.above.taps], dim=1)


def _fresh_weights(spec: dict, seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec).state_dict()


def _all_attributions(network: Tapped, x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {method: attributions(network, x, method, SANITY_STEPS) for method in METHODS}


def _coarse(attributed: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Maps averaged over squares of COARSE pixels."""
    pool: Callable = torch.nn.functional.avg_pool2d
    return {method: pool(torch.from_numpy(strength(some)), COARSE).numpy() for method, some in attributed.items()}


def _likeness(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean Spearman correlation of [n, V, H, W] with another, over n."""
    a, b = (some[..., ::EVERY, ::EVERY].flatten(1).numpy() for some in (a, b))
    return float(np.mean([rank_correlation(*pair) for pair in zip(a, b, strict=True)]))


def _mean_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Over all samples and views of maps [n, V, h, w], each map scaled to a largest value of 1."""
    views = zip(a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:]), strict=True)
    return float(np.mean([ssim(_unit(one), _unit(other)) for one, other in views]))


def _unit(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64) / max(float(image.max()), 1e-300)


def _window(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)
