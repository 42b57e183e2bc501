"""Labels that a teacher gives: against loops, and what the student sees of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gazepipe.datasets.store import open_store, write_store
from gazepipe.errors import UserError
from gazepipe.methods.pseudo_labels import Labelled, LearnsPseudoLabels, drawn, labels, moved, unlabelled, views
from gazepipe.methods.settings import PseudoLabels
from gazepipe.models.registry import build
from gazepipe.models.weights import save_weights
from gazepipe.training.inherit import description
from gazepipe.training.losses import mse, supervised
from gazepipe.training.method import Context
from gazepipe.training.samples import Samples, samples_of
from gazepipe.training.settings import Augmentation, Training

CPU = torch.device("cpu")
STILL = Augmentation(**dict.fromkeys(Augmentation.model_fields, 0.0))
SPEC = {"arch": "resnet18", "width": 0.125, "input": [1, 32, 64]}


class Weighted(nn.Module):
    """Two sums over the pixels with weights of their own: no symmetry, no invariance."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(2, 1, 32, 64, generator=torch.Generator().manual_seed(3)) / 100

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bvhw,ovhw->bo", x, self.weight)


def toy_store(path, count, name):
    """A store of `count` grey images of one subject: levels 0, 10, ... of a, 100, 110, ... of another name."""
    first = 0 if name == "a" else 100
    image = np.stack([np.full((1, 32, 64), first + 10 * k, np.uint8) for k in range(count)])
    image[:, :, :, :32] += 2  # no mirror image of itself
    sample = {"image": image, "target": np.zeros((count, 2), np.float32), "head_pose": np.zeros((count, 2), np.float32)}
    batch = {**sample, "subject": name, "frame": [str(k) for k in range(count)]}
    write_store(path, [batch], {"dataset": name, "patch": {"kind": "eyes", "height": 32, "width": 64}, "source": {}})
    return path


@pytest.fixture
def noise() -> Samples:
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 32, 64), dtype=np.uint8)
    target = np.full((7, 2), 9.0, np.float32)
    return Samples(images, np.arange(7), target, np.array(["s"] * 7), mean=0.4, std=0.25)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (2, 0), (-3, 0), (0, 1), (0, -2), (1, -1)])
def test_moved_images_repeat_their_edges(x, y):
    image = torch.arange(20.0).reshape(1, 1, 4, 5)
    expected = torch.zeros(1, 1, 4, 5)
    for row in range(4):
        for column in range(5):
            expected[0, 0, row, column] = image[0, 0, min(max(row - y, 0), 3), min(max(column - x, 0), 4)]
    assert torch.equal(moved(image, x, y), expected)


@pytest.mark.parametrize(("flip", "shift", "count"), [(0.25, 0.05, 10), (0.0, 0.05, 5), (0.25, 0.0, 2), (0.0, 0.0, 1)])
def test_a_label_is_the_mean_over_the_views(noise, flip, shift, count):
    teacher, reach = Weighted(), round(shift * 64)
    expected = []
    for image in noise.images:
        seen = (torch.from_numpy(image).float()[None] / 255 - 0.4) / 0.25
        outputs = []
        for x, y in [(0, 0), (reach, 0), (-reach, 0), (0, reach), (0, -reach)]:
            rows = [min(max(row - y, 0), 31) for row in range(32)]
            columns = [min(max(column - x, 0), 63) for column in range(64)]
            view = seen[:, :, rows][:, :, :, columns]
            outputs.append(teacher(view)[0])
            if flip:
                pitch, yaw = teacher(view.flip(3))[0]
                outputs.append(torch.stack([pitch, -yaw]))
        expected.append(torch.stack(outputs).mean(dim=0))
    chosen = STILL.model_copy(update={"flip": flip, "shift": shift})
    assert len(list(views(torch.zeros(1, 1, 32, 64), chosen))) == count
    torch.testing.assert_close(labels(teacher, noise, chosen, CPU), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_a_pool_draws_from_all_its_images_alike_and_with_their_labels(tmp_path):
    stores = [toy_store(tmp_path / f"{name}.h5", count, name) for name, count in (("a", 3), ("b", 1))]
    train = replace(samples_of(open_store(stores[0]), None), mean=0.25, std=2.0)
    weights = tmp_path / "teacher.safetensors"
    save_weights(weights, build(SPEC), SPEC, description(open_store(stores[0]), train))
    found = unlabelled(stores, weights, SPEC, train)
    given = [torch.tensor([[0.0, 1], [10, 11], [20, 21]]), torch.tensor([[100.0, 101]])]
    pool = [Labelled(some, label) for some, label in zip(found, given, strict=True)]
    images, label = drawn(pool, STILL, 4000, torch.Generator().manual_seed(5), CPU)
    values = ((images[:, 0, :, -1].mean(dim=1) * 2 + 0.25) * 255).round().int()
    numbers, counts = torch.unique(values, return_counts=True)
    assert numbers.tolist() == [0, 10, 20, 100]
    assert (counts / 4000 - 0.25).abs().max() < 0.03
    assert torch.equal(label[:, 0].int(), values)
    assert torch.equal(label[:, 1].int(), values + 1)
    again, _ = drawn(pool, STILL, 4000, torch.Generator().manual_seed(5), CPU)
    assert torch.equal(images, again)
    with pytest.raises(UserError, match="holds images of 1x32x64, the network takes 1x36x64"):
        unlabelled(stores, weights, {**SPEC, "input": [1, 36, 64]}, train)


def test_a_mirrored_image_is_learnt_with_a_mirrored_label(tmp_path):
    store = toy_store(tmp_path / "a.h5", 1, "a")
    pool = [Labelled(samples_of(open_store(store), None), torch.tensor([[0.5, 0.25]]))]
    always = STILL.model_copy(update={"flip": 1.0})
    images, label = drawn(pool, always, 6, torch.Generator().manual_seed(5), CPU)
    assert (images[..., -1] > images[..., 0]).all()
    assert torch.equal(label, torch.tensor([[0.5, -0.25]]).expand(6, 2))


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_objective_before_sees_both_kinds_of_image(tmp_path, noise, share):
    """A pool of one image, which the teacher's label stands for, and a student that is told apart by its weights."""
    store = toy_store(tmp_path / "a.h5", 1, "a")
    weights = tmp_path / "teacher.safetensors"
    teacher = build(SPEC).eval()
    save_weights(weights, teacher, SPEC, description(open_store(store), noise))
    context = Context(Training(loss="mse"), STILL, noise, 0, CPU, {"teacher": weights}, (store,))
    kind = LearnsPseudoLabels(PseudoLabels(share=share), context, torch.Generator().manual_seed(1))
    plain = supervised(mse)
    objective = kind.objective(plain, (build(SPEC), SPEC))
    student, images = build(SPEC).eval(), torch.randn(4, 1, 32, 64)
    target = torch.randn(4, 2)
    (pool,) = unlabelled([store], weights, SPEC, noise)
    seen = (torch.from_numpy(np.array(pool.images)).float() / 255 - noise.mean) / noise.std
    count = round(share * 4)
    everything = torch.cat([images, seen.expand(count, -1, -1, -1)])
    expected = plain(student, everything, torch.cat([target, teacher(seen).expand(count, 2)]))
    torch.testing.assert_close(objective(student, images, target), expected)


@pytest.mark.parametrize(("share", "epochs", "expected"), [(1.0, 60, 30), (0.5, 60, 40), (3.0, 120, 30), (2.0, 1, 1)])
def test_no_more_images_are_seen_than_without(share, epochs, expected):
    chosen = PseudoLabels(share=share)
    schedule = LearnsPseudoLabels(chosen, None, torch.Generator()).schedule(Training(epochs=epochs), 1)
    assert schedule == (Training(epochs=expected), 1)
    assert chosen.epochs_of(epochs) == expected
