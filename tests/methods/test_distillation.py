"""Distillation terms against slow references written with loops, and the objective's promises."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from gazepipe.errors import UserError
from gazepipe.methods.distillation import (
    attention_mask,
    distance,
    feature_adapters,
    feature_loss,
    largest_squared_error,
    mixed,
    non_local,
    prepare,
    random_target_loss,
    reliability_weight,
    response_loss,
)
from gazepipe.methods.settings import KD, FeatureKD
from gazepipe.models.registry import build
from gazepipe.training.losses import mse, smooth_l1
from gazepipe.training.samples import Samples

CPU = torch.device("cpu")
FEATURE = FeatureKD(stages=[0, 1], temperature=0.5, masked=0.3, attention=0.2, non_local=0.1)
TERMS = ("masked", "attention", "non_local")


def maps(channels: int, height: int, width: int, seed: int, batch: int = 3) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width, dtype=torch.float64, generator=draws)


def small(arch: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build({"arch": arch, "width": 0.125, "input": [1, 32, 64]}).eval()


def some_samples(count: int = 10) -> Samples:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 1, 32, 64), dtype=np.uint8)
    target = rng.uniform(-0.3, 0.3, (count, 2)).astype(np.float32)
    return Samples(images, np.arange(count), target, np.array(["a"] * count), 0.5, 0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(4, 1, 32, 64, generator=draws), 0.2 * torch.randn(4, 2, generator=draws)


# ---- references


def reference_attention(features: np.ndarray, temperature: float) -> np.ndarray:
    """h w softmax over places of mean_c |F| / T, sample by sample."""
    count, channels, height, width = features.shape
    out = np.zeros((count, height, width))
    for b in range(count):
        for i in range(height):
            for j in range(width):
                out[b, i, j] = math.exp(
                    sum(abs(features[b, c, i, j]) for c in range(channels)) / channels / temperature
                )
        out[b] *= height * width / out[b].sum()
    return out


def reference_non_local(features: np.ndarray) -> np.ndarray:
    count, channels, height, width = features.shape
    out = np.zeros_like(features)
    for b in range(count):
        places = [features[b, :, i, j] for i in range(height) for j in range(width)]
        for index, here in enumerate(places):
            weights = np.exp([here @ there / math.sqrt(channels) for there in places])
            mixed = sum(w * there for w, there in zip(weights / weights.sum(), places, strict=True))
            out[b, :, index // width, index % width] = mixed
    return out


def reference_rms(a: np.ndarray, b: np.ndarray, weight: np.ndarray | None = None) -> float:
    per_sample = []
    for k in range(len(a)):
        squares = (a[k] - b[k]) ** 2
        per_sample.append(math.sqrt((squares if weight is None else weight[k] * squares).mean()))
    return float(np.mean(per_sample))


def conv1x1(features: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    weight, bias = layer.weight.detach().numpy()[:, :, 0, 0], layer.bias.detach().numpy()
    return np.einsum("oc,bchw->bohw", weight, features) + bias[:, None, None]


def conv3x3(image: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    kernel, bias = layer.weight.detach().numpy()[0, 0], layer.bias.item()
    padded, out = np.pad(image, ((0, 0), (1, 1), (1, 1))), np.zeros_like(image)
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            out[:, i, j] = (padded[:, i : i + 3, j : j + 3] * kernel).sum(axis=(1, 2)) + bias
    return out


# ---- terms


def test_attention_mask():
    student, teacher = maps(3, 4, 5, 0), maps(6, 4, 5, 1)
    expected = (reference_attention(student.numpy(), 0.5) + reference_attention(teacher.numpy(), 0.5)) / 2
    mask = attention_mask(student.requires_grad_(), teacher, 0.5)
    np.testing.assert_allclose(mask[:, 0].numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(mask.mean(dim=(1, 2, 3)).numpy(), 1)
    assert not mask.requires_grad


def test_a_samples_mask_does_not_depend_on_the_rest_of_the_batch():
    student, teacher = maps(3, 4, 5, 0), maps(3, 4, 5, 1)
    alone = attention_mask(student[:1], teacher[:1], 0.1)
    torch.testing.assert_close(attention_mask(student, teacher, 0.1)[:1], alone)


def test_non_local():
    features = maps(4, 3, 5, 2)
    np.testing.assert_allclose(non_local(features).numpy(), reference_non_local(features.numpy()), rtol=1e-10)


def test_non_local_averages_large_maps_first():
    features = maps(2, 40, 24, 3)
    pooled = features.reshape(3, 2, 20, 2, 12, 2).mean(dim=(3, 5))
    torch.testing.assert_close(non_local(features), non_local(pooled))


@pytest.mark.parametrize("terms", [("masked",), ("attention",), ("non_local",), ("masked", "attention", "non_local")])
def test_feature_loss_against_loops(terms):
    student, teacher = maps(3, 4, 6, 4), maps(5, 4, 6, 5)
    torch.manual_seed(0)
    adapter = nn.ModuleDict(
        {
            "masked": nn.Conv2d(3, 5, 1),
            "channel": nn.Linear(3, 5),
            "spatial": nn.Conv2d(1, 1, 3, padding=1),
            "non_local": nn.Conv2d(3, 5, 1),
        }
    ).double()
    feature = FEATURE.model_copy(update={term: 0.0 for term in TERMS if term not in terms})
    s, t = student.numpy(), teacher.numpy()
    expected = 0.0
    if "masked" in terms:
        mask = (reference_attention(s, 0.5) + reference_attention(t, 0.5)) / 2
        expected += 0.3 * reference_rms(t, conv1x1(s, adapter["masked"]), mask[:, None])
    if "attention" in terms:
        weight, bias = (p.detach().numpy() for p in adapter["channel"].parameters())
        channels = reference_rms(t.mean(axis=(2, 3)), s.mean(axis=(2, 3)) @ weight.T + bias)
        places = reference_rms(t.mean(axis=1), conv3x3(s.mean(axis=1), adapter["spatial"]))
        expected += 0.2 * (channels + places)
    if "non_local" in terms:
        adapted = conv1x1(reference_non_local(s), adapter["non_local"])
        expected += 0.1 * reference_rms(reference_non_local(t), adapted)
    assert feature_loss(student, teacher, adapter, feature).item() == pytest.approx(expected, rel=1e-9)


def test_feature_loss_is_a_mean_over_the_batch():
    student, teacher = maps(3, 4, 4, 6), maps(3, 4, 4, 7)
    adapter = feature_adapters(FEATURE.model_copy(update={"stages": [0]}), small("resnet18"), small("resnet18"), 0)
    adapter = nn.ModuleDict({k: copy.deepcopy(v) for k, v in adapter[0].items()})
    adapter["masked"], adapter["non_local"] = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    adapter["channel"] = nn.Linear(3, 3)
    adapter.double()
    whole = feature_loss(student, teacher, adapter, FEATURE)
    parts = [feature_loss(student[i : i + 1], teacher[i : i + 1], adapter, FEATURE) for i in range(3)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_distance_has_a_gradient_of_zero_where_nothing_differs():
    a = maps(2, 3, 3, 8).requires_grad_()
    distance(a, a.detach()).backward()
    assert torch.count_nonzero(a.grad) == 0


def test_response_loss():
    predicted, taught, target = (torch.from_numpy(np.random.default_rng(k).normal(0, 0.2, (5, 2))) for k in range(3))
    trust = torch.tensor([1.0, 0.5, 0.0, 0.25, 1.0], dtype=torch.float64)
    for known in ([True] * 5, [True, False, True, True, False], [False] * 5):
        expected = 0.0
        for k in range(5):
            label = sum(math.degrees(predicted[k, i] - target[k, i]) ** 2 for i in range(2)) / 2
            teacher = sum(math.degrees(predicted[k, i] - taught[k, i]) ** 2 for i in range(2)) / 2
            expected += known[k] * 0.4 * label / max(1, sum(known)) + 0.7 * trust[k].item() * teacher / 5
        kd = KD(labels=0.4, response=0.7)
        found = response_loss(predicted, taught, target, mse, kd, trust, torch.tensor(known))
        assert found.item() == pytest.approx(expected)


def test_random_target_loss():
    predicted, taught, target = (torch.from_numpy(np.random.default_rng(k).normal(0, 0.2, (4, 2))) for k in range(3))
    alpha = torch.tensor([0.0, 1.0, 0.25, 0.5], dtype=torch.float64)
    expected = 0.0
    for k in range(4):
        for i in range(2):
            mixed = alpha[k] * taught[k, i] + (1 - alpha[k]) * target[k, i]
            off = abs(math.degrees(predicted[k, i] - mixed))
            expected += (0.5 * off**2 if off < 1 else off - 0.5) / 8
    assert random_target_loss(predicted, taught, target, smooth_l1, alpha).item() == pytest.approx(expected)


def test_reliability_weight():
    target = torch.zeros(4, 2)
    taught = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.3, 0.4], [3.0, 4.0]])
    np.testing.assert_allclose(reliability_weight(taught, target, 0.25).numpy(), [1, 0.96, 0, 0], atol=1e-6)
    assert reliability_weight(target, target, 0.0).tolist() == [1] * 4


# ---- the objective


def test_eta_is_the_teachers_largest_error_on_the_training_set():
    teacher, samples = small("resnet18"), some_samples()
    images = (torch.from_numpy(samples.images).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        expected = max(
            ((teacher(image[None])[0].numpy() - y) ** 2).sum() for image, y in zip(images, samples.target, strict=True)
        )
    assert largest_squared_error(teacher, samples, CPU) == pytest.approx(expected, rel=1e-5)


def test_response_distillation_of_a_perfect_teacher_is_plain_training_twice():
    student, (images, _) = small("resnet18"), batch()
    teacher = small("resnet10_wide", seed=1)
    target = teacher(images).detach()
    objective, adapters = prepare(KD(), student, teacher, "mse", some_samples(), generator(), CPU)
    torch.testing.assert_close(objective(student, images, target), 2 * mse(student(images), target).mean())
    assert adapters is None


def test_mixed_images_are_sums_of_two_and_lose_their_labels():
    images = torch.rand(64, 1, 8, 12)
    both, whole = mixed(images, 0.5, generator(3))
    assert torch.equal(both[whole], images[whole])
    assert 20 < whole.sum() < 44
    for image in both[~whole]:
        weights = torch.linalg.lstsq(images.flatten(1).T, image.flatten()).solution
        assert weights.sum().item() == pytest.approx(1, abs=1e-3)
        assert (weights.abs() > 1e-3).sum() <= 2
        assert weights.min() > -1e-3
    assert torch.equal(both, mixed(images, 0.5, generator(3))[0])
    assert mixed(images, 0.0, generator(3))[1].all()


def test_all_mixed_images_leave_the_labels_out():
    student, teacher, (images, target) = small("resnet18"), small("resnet18", seed=1), batch()
    objective, _ = prepare(KD(mixed=1.0), student, teacher, "mse", some_samples(), generator(7), CPU)
    seen, whole = mixed(images, 1.0, generator(7))
    assert not whole.any()
    torch.testing.assert_close(objective(student, images, target), mse(student(seen), teacher(seen)).mean())


def test_random_targets_differ_per_sample_and_repeat_with_the_seed():
    student, teacher, (images, target) = small("resnet18"), small("resnet18", seed=1), batch()
    kd = KD(random_target=True)
    draw = torch.rand(4, generator=generator(7))
    objective, _ = prepare(kd, student, teacher, "mse", some_samples(), generator(7), CPU)
    expected = random_target_loss(student(images), teacher(images), target, smooth_l1, draw)
    torch.testing.assert_close(objective(student, images, target), expected)
    assert objective(student, images, target) != expected


@pytest.mark.parametrize("arch", ["resnet18", "resnet10_wide", "simvit"])
def test_any_architecture_teaches_any_other(arch):
    """Different channels and map sizes: student and adapters get gradients, the teacher none, nor new statistics."""
    student, teacher = small("resnet18").train(), small(arch, seed=1).train()
    before = copy.deepcopy(teacher.state_dict())
    kd = KD(reliability=True, feature=FEATURE)
    objective, adapters = prepare(kd, student, teacher, "smooth_l1", some_samples(), generator(), CPU)
    images, target = batch()
    objective(student, images, target).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in adapters.parameters())
    stages = [student.stem, student.stage1, student.stage2]
    assert all(torch.count_nonzero(p.grad) for stage in stages for p in stage.parameters() if p.ndim > 1)
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_only_weighted_terms_have_adapters():
    feature = FEATURE.model_copy(update={"stages": [2], "masked": 0.0, "non_local": 0.0})
    adapters = feature_adapters(feature, small("resnet18"), small("resnet10_wide"), 0)
    assert [sorted(adapter) for adapter in adapters] == [["channel", "spatial"]]


def test_adapters_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = feature_adapters(FEATURE, small("resnet18"), small("resnet18"), 5)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    networks = small("resnet18", seed=2), small("resnet18", seed=2)
    torch.random.set_rng_state(state)
    again = feature_adapters(FEATURE, *networks, 5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_a_missing_stage_is_named():
    with pytest.raises(UserError, match=r"kd\.feature\.stages: 4 .* use 0 to 3"):
        feature_adapters(FEATURE.model_copy(update={"stages": [4]}), small("resnet18"), small("simvit"), 0)
