"""Narrowing the first layer: its algebra, the recovery, and the choice of a width."""

import numpy as np
import pytest
import torch

from gazepipe.models.itracker import ITracker4
from gazepipe.models.registry import build
from gazepipe.near_eye.explain.importance import ranking
from gazepipe.near_eye.explain.width import (
    Cached,
    Readout,
    best_importance,
    checked_widths,
    choose_width,
    error_curve,
    error_px,
    narrowed,
    parameters,
    recover,
)

SCALE = torch.tensor([100.0, 100.0])
FEATURES, FULL, FACTORS, HIDDEN = 40, 16, 3, 64
SPEC = {
    "arch": "itracker4",
    "width": 1.25,
    "input": [4, 131, 147],
    "options": {"dimensions": FULL, "embedding": "tanh", "output": "none"},
}
ORDER = np.arange(FULL)


def _curve(kind: str, errors: dict[int, float]) -> list[dict]:
    return [{"kind": kind, "width": width, "before_px": 99.0, "after_px": error} for width, error in errors.items()]


def _case(seed: int = 0) -> tuple[ITracker4, Cached, Cached]:
    """A network whose first layer of 16 dimensions passes on 3 factors (dimensions 5 to 15 hardly do), and samples."""
    draws = torch.Generator().manual_seed(seed)
    factors = torch.randn(360, FACTORS, generator=draws)
    features = factors @ torch.randn(FACTORS, FEATURES, generator=draws) + 0.01 * torch.randn(
        360, FEATURES, generator=draws
    )
    weight = torch.randn(FULL, FEATURES, generator=draws) / FEATURES
    weight[5:] *= 1e-3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(SPEC).eval().requires_grad_(False)
        torch.nn.init.normal_(model.head[2].weight, std=0.2)
    for term, of_tower in zip(model.first.terms, weight.split(FEATURES // 4, dim=1), strict=True):
        term.weight.copy_(of_tower)
    model.first.bias.copy_(torch.randn(FULL, generator=draws) / 4)
    subject = np.repeat([f"s{n}" for n in range(6)], 60)
    target = Readout(model)(features)
    train = Cached(features[:240], target[:240], subject[:240])
    return model, train, Cached(features[240:], target[240:], subject[240:])


def _narrowed(model: ITracker4, kind: str, width: int, train: Cached, order: np.ndarray = ORDER) -> Readout:
    return narrowed(model, SPEC, kind, width, order, train.features)


def test_full_rank_and_all_dimensions_change_nothing():
    model, train, validation = _case()
    expected = Readout(model)(validation.features)
    for kind in ("low_rank", "dropped"):
        network = _narrowed(model, kind, FULL, train)
        torch.testing.assert_close(network(validation.features), expected, atol=1e-5, rtol=1e-5)


def test_low_rank_of_a_layer_that_passes_three_directions_is_exact_at_three():
    model, train, validation = _case()
    errors = [error_px(_narrowed(model, "low_rank", rank, train), validation, SCALE) for rank in (1, 2, 3)]
    assert errors[2] < 0.1
    assert errors[0] > 10 * errors[2]
    network = _narrowed(model, "low_rank", 3, train)
    basis = network.first.mix.weight
    torch.testing.assert_close(basis.T @ basis, torch.eye(3), atol=1e-5, rtol=0)
    before, after = (each.first(network.by_tower(train.features)).mean(dim=0) for each in (model, network))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_dropped_dimensions_stand_at_their_mean():
    model, train, validation = _case()
    keep, whole = np.array([9, 0, 4]), Readout(model)
    z = whole.embed(train.features).mean(dim=0).repeat(len(validation.features), 1)
    z[:, keep] = whole.embed(validation.features)[:, keep]
    network = _narrowed(model, "dropped", 3, train, np.array([9, 0, 4, *(set(range(FULL)) - {9, 0, 4})]))
    torch.testing.assert_close(network(validation.features), model.head(z), atol=1e-6, rtol=1e-5)
    assert parameters(network) == 3 * FEATURES + 3 + (3 * HIDDEN + HIDDEN) + (HIDDEN * 2 + 2)


def test_error_counts_every_subject_the_same():
    samples = Cached(torch.zeros(4, 1), torch.tensor([[3.0, 4.0], [0, 0], [0, 0], [0, 0]]), np.array(list("abbb")))
    assert error_px(lambda x: torch.zeros(len(x), 2), samples, torch.ones(2)) == pytest.approx(2.5)
    assert error_px(lambda x: torch.zeros(len(x), 2), samples, torch.tensor([10.0, 0])) == pytest.approx(15)


def test_recovery_mends_a_narrow_layer_and_never_makes_it_worse():
    model, train, validation = _case()
    network = _narrowed(model, "low_rank", 2, train)
    before = error_px(network, validation, SCALE)
    after = recover(network, train.target, train, validation, SCALE, 40, 0)
    assert after < 0.7 * before
    assert error_px(network, validation, SCALE) == pytest.approx(after)
    exact = _narrowed(model, "low_rank", FULL, train)
    assert recover(exact, train.target + 1, train, validation, SCALE, 2, 0) < 1e-2


def test_recovery_repeats():
    model, train, validation = _case()
    errors = [
        recover(_narrowed(model, "low_rank", 1, train), train.target, train, validation, SCALE, 5, seed)
        for seed in (0, 0, 1)
    ]
    assert errors[0] == errors[1] != errors[2]


def test_the_best_importance_is_the_one_that_keeps_what_is_used():
    model, train, validation = _case()
    used = Readout(model).embed(train.features).std(dim=0).numpy()
    best, errors = best_importance(
        model, SPEC, {"useless": used.max() - used, "useful": used}, train, validation, SCALE, [2, 5, 8]
    )
    assert best == "useful"
    assert errors["useful"][1] < errors["useless"][1]
    assert set(ranking(used)[:5]) == set(range(5))


def test_the_curve_has_a_row_for_each_kind_and_width_and_falls():
    model, train, validation = _case()
    order = ranking(Readout(model).embed(train.features).std(dim=0).numpy())
    curve = error_curve(model, SPEC, order, train, validation, SCALE, [1, 3, FULL], 3, 0)
    assert [(row["kind"], row["width"]) for row in curve] == [
        (kind, width) for kind in ("low_rank", "dropped") for width in (1, 3, FULL)
    ]
    assert all(row["after_px"] <= row["before_px"] for row in curve)
    assert curve[0]["before_px"] > curve[1]["before_px"]
    assert curve[2]["parameters"] == FULL * FEATURES + FULL * FULL + FULL + (FULL * HIDDEN + HIDDEN) + (HIDDEN * 2 + 2)


def test_choice_is_the_smallest_width_within_the_tolerance():
    curve = _curve("dropped", {1: 30.0, 4: 10.3, 8: 10.2, 16: 10.0}) + _curve("low_rank", {4: 9.0, 1: 10.0})
    assert choose_width(curve, "dropped", 10.0, 0.02) == 8
    assert choose_width(curve, "dropped", 10.0, 0.03) == 4
    assert choose_width(curve, "dropped", 10.0, 0.0) == 16
    assert choose_width(curve, "low_rank", 10.0, 0.0) == 1


def test_a_lucky_narrow_network_is_not_chosen():
    assert choose_width(_curve("low_rank", {1: 30.0, 2: 9.0, 4: 11.0, 8: 10.0, 16: 9.9}), "low_rank", 10.0, 0.02) == 8


def test_the_widest_is_chosen_where_no_width_is_good_enough():
    assert choose_width(_curve("dropped", {1: 30.0, 4: 12.0, 8: 12.0}), "dropped", 10.0, 0.02) == 8


def test_widths_end_at_the_full_one():
    assert checked_widths([64, 2, 2, 128, 256], 128) == [2, 64, 128]
    assert checked_widths([64], 32) == [32]
