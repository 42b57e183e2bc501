"""How much each channel of a group matters, by one of four measures; the mean of a group's scores is 1."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from gazepipe.methods.rebirth import redundancy
from gazepipe.methods.structural.graph import DENSE, Group, by_group
from gazepipe.models.channels import is_depthwise

CHUNK = 8
"""Images whose gradients are taken together."""

Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def scores(
    model: nn.Module,
    groups: list[Group],
    criterion: str,
    images: torch.Tensor,
    labels: torch.Tensor,
    objective: Objective,
) -> list[torch.Tensor]:
    """One score [size] for each channel of each group, float64 on the CPU, at least 0, mean 1 in each group.

    `criterion` is one of SCORES. The first three look at the filters that write a channel, and take the mean over the
    layers that do; a layer's scores are divided by their mean first, and a filter is compared with those that read the
    same inputs. `taylor` looks at what is read of a channel:

    - l2: length of the filter (Li et al. 2017, there with the sum of magnitudes)
    - cosine: 1 - mean |cosine| to the layer's other filters, so that the most redundant go first, as in re-birth
    - geometric_median: sum of the distances to the layer's other filters, so that those go that the others can
      replace (He et al. 2019, "FPGM", eq. 8)
    - taylor: mean over parts of the `images` of the squared first-order change of the objective if the channel were
      silent (Molchanov et al. 2019, eq. 8, at the channel: the sum over all that is read of it of z dL/dz)
    """
    if criterion == "taylor":
        return [_relative(score) for score in _taylor(model, groups, images, labels, objective)]
    return [_of_filters(model, group, SCORES[criterion]) for group in groups]


def length(filters: torch.Tensor) -> torch.Tensor:
    """Euclidean length of each filter: [n, fan_in] -> [n]."""
    return filters.norm(dim=1)


def distinctness(filters: torch.Tensor) -> torch.Tensor:
    """1 - mean |cosine| to the others: [n, fan_in] -> [n] in [0, 1]; 0 for a filter of zeros, which adds nothing, 1
    for one without others."""
    alone = torch.zeros(1, dtype=torch.float64, device=filters.device)
    return torch.where(filters.norm(dim=1) > 0, 1 - (redundancy(filters) if len(filters) > 1 else alone), 0)


def distance_sum(filters: torch.Tensor) -> torch.Tensor:
    """Sum of the distances to all filters: [n, fan_in] -> [n]; the lower, the nearer to the geometric median."""
    return torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)


SCORES = {"cosine": distinctness, "l2": length, "taylor": None, "geometric_median": distance_sum}


def _of_filters(model: nn.Module, group: Group, measure: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in group.members:
        layer = model.get_submodule(member.layer)
        if member.side == "out" and isinstance(layer, DENSE) and not is_depthwise(layer):
            filters = by_group(layer, layer.weight.detach().double().cpu()).flatten(2)
            score = torch.cat([measure(of_group) for of_group in filters])
            total.index_add_(0, member.root, _relative(score[member.index]))
    return _relative(total)


def _taylor(
    model: nn.Module, groups: list[Group], images: torch.Tensor, labels: torch.Tensor, objective: Objective
) -> list[torch.Tensor]:
    work = copy.deepcopy(model).eval().requires_grad_(True)
    readers = [[member for member in group.members if member.side == "in"] for group in groups]
    weights = {member.layer: work.get_submodule(member.layer).weight for some in readers for member in some}
    found = [torch.zeros(group.size, dtype=torch.float64) for group in groups]
    for some, their_labels in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
        gradients = torch.autograd.grad(objective(work, some, their_labels), list(weights.values()))
        # The output of a layer without its bias is linear in its weights: weight times gradient, summed over all that
        # is read of an input, is input times gradient, summed over its places.
        read = {
            name: _over_reads(by_group(work.get_submodule(name), weight.detach() * gradient)).double().cpu()
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        for score, members, group in zip(found, readers, groups, strict=True):
            change = torch.zeros(group.size, dtype=torch.float64)
            for member in members:
                change.index_add_(0, member.root, read[member.layer][member.index])
            score += change.square()
    return found


def _over_reads(product: torch.Tensor) -> torch.Tensor:
    """[groups, out, in, ...] summed over all that is read of each input: [groups * in]."""
    return product.transpose(1, 2).flatten(2).sum(dim=2).flatten()


def _relative(score: torch.Tensor) -> torch.Tensor:
    mean = score.mean()
    return score / mean if mean > 0 else torch.ones_like(score)
