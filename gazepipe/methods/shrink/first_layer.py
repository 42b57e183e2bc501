"""A smaller first fully connected layer for itracker4: of low rank, or with fewer dimensions of the embedding."""

import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.methods.shrink.rebuild import rebuilt
from gazepipe.models.itracker import TowerSum


@torch.no_grad()
def low_rank(model: nn.Module, spec: dict, features: list[torch.Tensor], rank: int) -> tuple[nn.Module, dict]:
    """The network whose first layer has `rank` factors, chosen for the data, and its spec.

    `features` are the towers' outputs for N images, four [N, f] (`model.tower_features`). With V the first `rank`
    principal directions of the layer's output x W^T before its activation, W' = V V^T W, and the bias gets what the
    other directions hold in the mean: the best layer of its rank for these data in the mean square. Exact at full
    rank, and for data whose output varies in no more than `rank` directions. The towers' layers become V^T W [rank,
    f], `mix` V [E, rank]. Raises UserError for a rank outside 1 to E.
    """
    first = model.first
    dimensions = len(first.bias)
    if not 1 <= rank <= dimensions:
        raise UserError(f"shrink: rank is {rank}; use 1 to {dimensions}, the size of the embedding")
    weights = term_weights(first)
    response = sum(x.double().to(weight.device) @ weight.T for x, weight in zip(features, weights, strict=True))
    mean = response.mean(dim=0)
    centred = response - mean
    directions = _principal_directions(centred.T @ centred, rank)
    terms = {f"first.terms.{view}.weight": directions.T @ weight for view, weight in enumerate(weights)}
    bias = first.bias.double() + mean - directions @ (directions.T @ mean)
    return rebuilt(model, spec, {"rank": rank}, {**terms, "first.mix.weight": directions, "first.bias": bias})


@torch.no_grad()
def drop_dimensions(
    model: nn.Module, spec: dict, keep: list[int], mean_embedding: torch.Tensor
) -> tuple[nn.Module, dict]:
    """The network with the dimensions `keep` of its embedding only, and its spec.

    A dropped dimension stays at its mean: `mean_embedding` [E], behind the activation, goes through the head's first
    layer into its bias. Exact where the dropped dimensions are constant. Where the first layer was factored to a
    rank above the number of dimensions left, the factors are multiplied out. Raises UserError for a `keep` that is
    empty, not rising, or names a dimension that is not there.
    """
    first, reader = model.first, model.head[0]
    dimensions = reader.in_features
    keep = list(map(int, keep))
    if not keep or keep != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= dimensions:
        raise UserError(f"shrink: dimensions to keep are {keep}; list some of 0 to {dimensions - 1}, rising")
    dropped = sorted(set(range(dimensions)) - set(keep))
    mean = mean_embedding.double().to(reader.weight.device)
    changed = {
        "first.bias": first.bias[keep],
        "head.0.weight": reader.weight[:, keep],
        "head.0.bias": reader.bias + reader.weight[:, dropped].double() @ mean[dropped],
    }
    rank = first.mix.in_features if isinstance(first.mix, nn.Linear) else None
    if rank is not None and rank <= len(keep):
        changed["first.mix.weight"] = first.mix.weight[keep]
    else:
        rank, changed["first.mix.weight"] = None, None
        changed |= {f"first.terms.{view}.weight": weight[keep] for view, weight in enumerate(term_weights(first))}
    return rebuilt(model, spec, {"dimensions": len(keep), "rank": rank}, changed)


def term_weights(first: TowerSum) -> list[torch.Tensor]:
    """The weights [E, f] of each tower's term, float64, factors multiplied out."""
    terms = [term.weight.double() for term in first.terms]
    return [first.mix.weight.double() @ term for term in terms] if isinstance(first.mix, nn.Linear) else terms


def _principal_directions(covariance: torch.Tensor, number: int) -> torch.Tensor:
    """The `number` eigenvectors of the largest eigenvalues, [E, number], largest first; each one's largest entry is
    positive, since the sign is otherwise the machine's choice."""
    directions = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :number]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return directions * largest.sign()
