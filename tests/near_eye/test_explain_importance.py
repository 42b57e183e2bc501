"""Importances against heads whose used dimensions are known, and completeness of the attributions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gazepipe.near_eye.explain import importance
from gazepipe.near_eye.explain.importance import SCORES, importances, ranking, ranks, shares, stability, top_overlap

USED = (3, 8)


def _linear_case(count=300, width=12):
    """Independent dimensions of unit spread; the head reads dimension 3 with weight 4 and 8 with weight 2."""
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(count, width, generator=draws)
    z = (z - z.mean(dim=0)) / z.std(dim=0, correction=0)
    weight = torch.zeros(2, width)
    weight[0, 3], weight[1, 8] = 4.0, 2.0
    return z, weight


def _head(width=10, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, 2), nn.Sigmoid())


def test_every_score_names_the_dimensions_that_a_linear_head_reads():
    z, weight = _linear_case()
    noise = 0.3 * torch.randn(len(z), 2, generator=torch.Generator().manual_seed(1))
    scores = importances(lambda values: values @ weight.T, z, z @ weight.T + noise, trees=30, seed=0)
    assert tuple(scores) == SCORES
    for name, score in scores.items():
        assert tuple(ranking(score)[:2]) == USED, name
        assert score.sum() == pytest.approx(1)
        assert (score >= 0).all()


def test_active_subspace_and_integrated_gradients_of_a_linear_head_in_closed_form():
    z, weight = _linear_case()
    covariance = np.cov(z.numpy().astype(float), rowvar=False, bias=True)
    active = importance.active_subspace(lambda values: values @ weight.T, z)
    # Diagonal of L W^T W L with L the root of the covariance, which is the identity but for chance correlations.
    assert active.sum() == pytest.approx(np.trace(weight.numpy() @ covariance @ weight.numpy().T), rel=1e-5)
    assert active[3] == pytest.approx(16, rel=0.05)
    assert active[8] == pytest.approx(4, rel=0.05)
    moved = importance.integrated_gradients(lambda values: values @ weight.T, z)
    assert moved[3] == pytest.approx(4 * z[:, 3].abs().mean().item(), rel=1e-4)
    assert np.delete(moved, USED) == pytest.approx(np.zeros(10))


def test_taylor_is_the_slope_times_the_value():
    z = torch.tensor([[2.0, -1.0, 5.0], [1.0, 3.0, 5.0]])
    weight = torch.tensor([[3.0, 0, 0], [0, 4.0, 0]])
    target = torch.zeros(2, 2)
    output = z @ weight.T
    unit = output / torch.linalg.vector_norm(output, dim=1, keepdim=True)
    expected = (z * (unit @ weight)).abs().mean(dim=0)
    found = importance.taylor(lambda values: values @ weight.T, z, target)
    assert found == pytest.approx(expected.numpy(), rel=1e-5)
    assert found[2] == 0


def test_integrated_gradients_are_complete():
    head, z = _head(), torch.randn(40, 10, generator=torch.Generator().manual_seed(2)) * 2
    parts = importance.head_attributions(head, z)
    moved = head(z) - head(z.mean(dim=0, keepdim=True))
    assert parts.shape == (40, 2, 10)
    torch.testing.assert_close(parts.sum(dim=2), moved.detach(), atol=1e-4, rtol=1e-3)


def test_head_jacobian_matches_torch_func():
    head, z = _head(), torch.randn(7, 10, generator=torch.Generator().manual_seed(3))
    expected = torch.func.vmap(torch.func.jacrev(head))(z).detach()
    assert importance.head_jacobian(head, z) == pytest.approx(expected.numpy(), abs=1e-6)


def test_permutation_of_an_unread_dimension_costs_nothing():
    z, weight = _linear_case(60)
    rises = importance.permutation(lambda values: values @ weight.T, z, z @ weight.T, seed=0)
    assert np.delete(rises, USED) == pytest.approx(np.zeros(10), abs=1e-6)
    # Two independent draws of unit spread lie 2 / sqrt(pi) apart.
    assert rises[3] == pytest.approx(4 * 2 / np.sqrt(np.pi), rel=0.2)


def test_equal_arguments_give_equal_scores_and_another_seed_others():
    head, z = _head(), torch.randn(50, 10, generator=torch.Generator().manual_seed(4))
    target = head(z).detach() + 0.1
    first, again, other = (importances(head, z, target, trees=5, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in SCORES)
    assert not np.array_equal(first["random_forest"], other["random_forest"])
    assert not np.array_equal(first["permutation"], other["permutation"])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_shares_and_ranks(scores):
    found = shares(np.array(scores))
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    place = ranks(np.array(scores))
    assert sorted(place) == list(range(1, len(scores) + 1))
    assert all(scores[a] >= scores[b] for a, b in zip(ranking(scores), ranking(scores)[1:], strict=False))


def test_scores_without_a_positive_one_share_equally():
    assert shares(np.array([-1.0, 0.0])) == pytest.approx([0.5, 0.5])


def test_stability_compares_each_pair_of_subjects():
    same, reverse = np.arange(12.0), np.arange(12.0)[::-1]
    scores = {"b": dict.fromkeys(SCORES, same), "a": dict.fromkeys(SCORES, same), "c": dict.fromkeys(SCORES, reverse)}
    rows = stability(scores)
    assert len(rows) == 3 * len(SCORES)
    by_pair = {(row["a"], row["b"]): row for row in rows if row["importance"] == "taylor"}
    assert by_pair["a", "b"]["spearman"] == pytest.approx(1)
    assert by_pair["a", "b"]["top_overlap"] == 1
    assert by_pair["a", "c"]["spearman"] == pytest.approx(-1)
    assert by_pair["b", "c"]["top_overlap"] == pytest.approx(8 / 10)


def test_a_constant_score_correlates_with_nothing():
    assert importance.rank_correlation(np.ones(4), np.arange(4.0)) == 0
    assert top_overlap(np.arange(3.0), np.arange(3.0), top=10) == 1
