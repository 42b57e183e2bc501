"""How much each dimension of an embedding matters to the gaze point, by five scores."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from captum.attr import IntegratedGradients
from scipy.stats import rankdata, spearmanr
from sklearn.ensemble import RandomForestRegressor

from gazepipe.near_eye.explain.dimension import active_matrix

SCORES = ("active_subspace", "taylor", "integrated_gradients", "random_forest", "permutation")
IG_STEPS = 32
SHUFFLES = 5
TOP = 10

Head = Callable[[torch.Tensor], torch.Tensor]
"""Embedding [n, E] to gaze points [n, 2] in pixels."""


def importances(head: Head, z: torch.Tensor, target: torch.Tensor, trees: int, seed: int) -> dict[str, np.ndarray]:
    """Each of SCORES to the shares [E] of the dimensions, not negative and of sum 1.

    `z` is [n, E], `target` [n, 2] in pixels; `head` maps between them. One pure function of its arguments.
    """
    z, target = z.detach().cpu(), target.cpu()
    return {
        "active_subspace": shares(active_subspace(head, z)),
        "taylor": shares(taylor(head, z, target)),
        "integrated_gradients": shares(integrated_gradients(head, z)),
        "random_forest": shares(random_forest(z, target, trees, seed)),
        "permutation": shares(permutation(head, z, target, seed)),
    }


def shares(scores: np.ndarray) -> np.ndarray:
    """Scores [E] clipped at 0 and divided by their sum; equal shares where none is positive."""
    positive = np.asarray(scores, np.float64).clip(min=0)
    total = positive.sum()
    return positive / total if total > 0 else np.full(len(positive), 1 / len(positive))


def ranking(scores: np.ndarray) -> np.ndarray:
    """Dimensions [E], the most important first; equal scores in the order of the dimensions."""
    return np.argsort(-np.asarray(scores), kind="stable")


def ranks(scores: np.ndarray) -> np.ndarray:
    """The rank [E] of each dimension, 1 for the most important; equal scores as in `ranking`."""
    return rankdata(-np.asarray(scores), method="ordinal")


def head_jacobian(head: Head, z: torch.Tensor) -> np.ndarray:
    """d head / d z of each sample: [n, O, E] for z [n, E]."""
    z = z.detach().requires_grad_(True)
    output = head(z)
    rows = [torch.autograd.grad(output[:, o].sum(), z, retain_graph=True)[0] for o in range(output.shape[1])]
    return torch.stack(rows, dim=1).numpy()


def active_subspace(head: Head, z: torch.Tensor) -> np.ndarray:
    """Activity scores [E], sum_j lambda_j w_ij^2 (Constantine & Diaz 2017): the dimensions' parts of the
    output's variance to first order, in squared pixels, all eigenvectors counted.
    """
    return np.diag(active_matrix(z.numpy(), head_jacobian(head, z))).copy()


def taylor(head: Head, z: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """mean |z dL/dz| [E] with L the distance in pixels (Molchanov et al. 2017): what setting a dimension to
    zero would cost, to first order.
    """
    z = z.detach().requires_grad_(True)
    distance = torch.linalg.vector_norm(head(z) - target, dim=1).sum()
    gradient = torch.autograd.grad(distance, z)[0]
    return (z.detach() * gradient).abs().mean(dim=0).numpy()


def integrated_gradients(head: Head, z: torch.Tensor) -> np.ndarray:
    """Mean distance in pixels [E] that a dimension moves the gaze point from that of the mean embedding
    (Sundararajan et al. 2017).
    """
    return np.linalg.norm(head_attributions(head, z).numpy(), axis=1).mean(axis=0)


def head_attributions(head: Head, z: torch.Tensor, steps: int = IG_STEPS) -> torch.Tensor:
    """Integrated gradients [n, 2, E] of the head from the mean embedding; they sum to head(z) - head(mean)."""
    method, mean = IntegratedGradients(head), z.mean(dim=0, keepdim=True)
    parts = [method.attribute(z, mean, target=output, n_steps=steps).detach() for output in range(2)]
    return torch.stack(parts, dim=1).float()


def random_forest(z: torch.Tensor, target: torch.Tensor, trees: int, seed: int) -> np.ndarray:
    """Impurity importances [E] of a forest from embedding to gaze point: that of the earlier prototype. It does
    not use the head, and correlated dimensions share their importance.
    """
    forest = RandomForestRegressor(trees, max_features=1 / 3, random_state=seed, n_jobs=1)
    return forest.fit(z.numpy(), target.numpy()).feature_importances_


@torch.no_grad()
def permutation(head: Head, z: torch.Tensor, target: torch.Tensor, seed: int) -> np.ndarray:
    """Rise of the mean error in pixels [E] when a dimension's values are shuffled among the samples."""
    draws = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(z), generator=draws) for _ in range(SHUFFLES)]
    rises = np.empty(z.shape[1])
    for dimension in range(z.shape[1]):
        shuffled = z.repeat(SHUFFLES, 1)
        shuffled[:, dimension] = torch.cat([z[order, dimension] for order in orders])
        error = torch.linalg.vector_norm(head(shuffled) - target.repeat(SHUFFLES, 1), dim=1)
        rises[dimension] = error.double().mean()
    return rises - float(torch.linalg.vector_norm(head(z) - target, dim=1).double().mean())


def top_overlap(a: np.ndarray, b: np.ndarray, top: int = TOP) -> float:
    """The share, 0 to 1, of the `top` most important dimensions that two scores [E] have in common."""
    top = min(top, len(a))
    return len(set(ranking(a)[:top]) & set(ranking(b)[:top])) / top


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two scores [E]; 0 where one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def stability(scores: dict[str, dict[str, np.ndarray]]) -> list[dict]:
    """Agreement of rankings between subjects: {subject: {score: shares [E]}} to rows score, a, b, spearman,
    top_overlap (of the TOP dimensions), one per score and pair.
    """
    return [
        {
            "importance": name,
            "a": a,
            "b": b,
            "spearman": rank_correlation(scores[a][name], scores[b][name]),
            "top_overlap": top_overlap(scores[a][name], scores[b][name]),
        }
        for name in SCORES
        for a, b in combinations(sorted(scores), 2)
    ]
