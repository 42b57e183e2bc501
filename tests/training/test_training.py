"""The loop and the stage: schedules and optimizers in closed form, byte equality, learning, and every refusal."""

import csv
import json
import math
import sys

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from toy_points import SCENE, write_toy_points
from toy_store import HEIGHT, WIDTH, write_toy_split, write_toy_store
from toy_training import AUGMENTATION, POINT_SPEC, SPEC, TRAINING, regime, run, settings, training

from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg
from gazepipe.methods import train as stage
from gazepipe.methods.settings import TrainSettings
from gazepipe.models.registry import build
from gazepipe.models.weights import read_metadata, save_weights
from gazepipe.training.device import autocast, resolve_device, resolve_precision
from gazepipe.training.fit import HISTORY_COLUMNS, fit, stalled, subject_errors, update, validation_error
from gazepipe.training.losses import mse, smooth_l1, supervised
from gazepipe.training.optim import build_optimizer, rate_factor
from gazepipe.training.run import Average
from gazepipe.training.samples import (
    Samples,
    batches,
    evaluation_batch,
    normalised,
    normalised_by,
    pixel_statistics,
    samples_of,
    to_unit,
)
from gazepipe.training.settings import EarlyStopping

CPU = torch.device("cpu")
REBIRTH = {"share": 0.15, "generations": 2, "epochs": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_toy_store(tmp_path_factory.mktemp("store") / "toy.h5")


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return write_toy_points(tmp_path_factory.mktemp("points") / "points.h5")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return write_toy_split(tmp_path_factory.mktemp("split") / "toy.csv")


@pytest.fixture(scope="module")
def base(store, split, tmp_path_factory):
    """Weights of a plain run of two epochs."""
    out = tmp_path_factory.mktemp("runs") / "base"
    return run(settings(), store, split, out)


def samples(store, split) -> tuple[Samples, Samples]:
    roles = read_split(split, 0)
    return tuple(samples_of(open_store(store), roles[role]) for role in ("train", "validation"))


class Linear(nn.Module):
    """A network that learns nothing quickly, for tests of what surrounds it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(HEIGHT * WIDTH, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


# ---- data


def test_batches_gather_every_sample_once_and_in_rising_order(store, split):
    chosen, _ = samples(store, split)
    order = np.random.default_rng(0).permutation(len(chosen))
    seen = []
    opened = open_store(store)
    for images, target in batches(chosen, 32, order):
        assert images.dtype == torch.uint8
        assert images.shape == (32, 1, HEIGHT, WIDTH)
        rows = [int(np.flatnonzero((opened.target == y.numpy()).all(axis=1))[0]) for y in target]
        assert rows == sorted(rows)
        assert all(np.array_equal(image.numpy(), opened.image[row]) for image, row in zip(images, rows, strict=True))
        seen += rows
    assert len(set(seen)) == len(seen) == 200 - 200 % 32
    assert set(seen) <= set(chosen.rows)


def test_without_an_order_nothing_is_left_out(store):
    sizes = [len(images) for images, _ in batches(samples_of(open_store(store), {"s0", "s5"}), 32)]
    assert sizes == [32, 32, 16]


def test_fewer_samples_than_a_batch_are_one_batch(store):
    few = samples_of(open_store(store), {"s0"})
    assert [len(images) for images, _ in batches(few, 64, np.arange(40))] == [40]


def test_normalisation():
    seen = normalised(to_unit(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8), CPU), 0.5, 0.25)
    np.testing.assert_allclose(seen.flatten(), [-2, 2, -1.2], rtol=1e-6)


def test_a_resumed_epoch_reads_the_batches_that_are_left(store, split):
    chosen, _ = samples(store, split)
    order = np.random.default_rng(0).permutation(len(chosen))
    whole, rest = list(batches(chosen, 32, order)), list(batches(chosen, 32, order, start=4))
    assert len(rest) == len(whole) - 4
    for expected, found in zip(whole[4:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_networks_learn_a_point_over_its_scale(points):
    some = samples_of(open_store(points), {"s0"})
    assert (some.units, some.scale) == ("px", (640.0, 640.0))
    _, target = next(batches(some, 64))
    assert target.dtype == torch.float32
    np.testing.assert_allclose(target.numpy(), some.target / 640, rtol=1e-6)


def test_pixel_statistics_are_exact(points):
    some = samples_of(open_store(points), {"s1", "s4"})
    pixels = some.images[some.rows].astype(np.float64) / 255
    assert pixel_statistics(some) == pytest.approx((pixels.mean(), pixels.std()), rel=1e-13)
    ends = Samples(np.array([[[[0, 255]]]], np.uint8), np.array([0]), np.zeros((1, 2)), np.array(["a"]), 0.5, 0.5)
    assert pixel_statistics(ends) == (0.5, 0.5)


def test_only_training_pixels_normalise(store, split):
    roles = dict(zip(("train", "validation"), samples(store, split), strict=True))
    assert normalised_by(roles, "store") is roles
    seen = normalised_by(roles, "training")
    assert {(some.mean, some.std) for some in seen.values()} == {pixel_statistics(roles["train"])}
    assert np.array_equal(seen["validation"].rows, roles["validation"].rows)


def test_images_without_any_contrast_are_refused():
    flat = Samples(np.full((2, 1, 3, 3), 7, np.uint8), np.arange(2), np.zeros((2, 2)), np.array(["a", "b"]), 0.5, 0.5)
    with pytest.raises(UserError, match=r"training\.normalise: every training pixel is 7, so the standard deviation"):
        pixel_statistics(flat)


@pytest.mark.parametrize(("shape", "count"), [((1, 36, 112), 256), ((4, 288, 360), 40), ((4, 5000, 5000), 1)])
def test_large_images_are_evaluated_few_at_a_time(shape, count):
    images = np.broadcast_to(np.zeros((), np.uint8), (1, *shape))
    some = Samples(images, np.arange(1), np.zeros((1, 2)), np.array(["a"]), 0.5, 0.5)
    assert evaluation_batch(some) == count


def test_a_subject_that_the_store_lacks_is_named(store):
    with pytest.raises(UserError, match=r"toy\.h5: has no subject 's9'"):
        samples_of(open_store(store), {"s1", "s9"})


# ---- optimizer and schedule


def test_cosine_schedule_with_warmup():
    block = training(epochs=4, warmup_epochs=1.0)
    factors = [rate_factor(block, step, 5) for step in range(20)]
    np.testing.assert_allclose(factors[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(factors[5:], [(1 + math.cos(math.pi * k / 15)) / 2 for k in range(15)])


def test_step_schedule():
    block = training(schedule="step", epochs=6, warmup_epochs=0, step_epochs=2, step_factor=0.1)
    assert [round(rate_factor(block, step, 1), 9) for step in range(6)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_warmup_takes_at_most_half_of_a_short_run():
    assert [rate_factor(training(epochs=1), step, 4) for step in range(3)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_norms_and_biases_do_not_decay(name, kind):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    frozen = nn.Linear(3, 3).requires_grad_(False)
    optimizer = build_optimizer(training(optimizer=name), [model, frozen])
    assert type(optimizer) is kind
    groups = {group["weight_decay"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    assert groups[0.01] == {id(model[0].weight), id(model[3].weight)}
    assert groups[0.0] == {id(p) for p in (model[0].bias, model[1].weight, model[1].bias, model[3].bias)}


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_update_clips_the_whole_gradient(clip):
    a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    start = a.weight.item(), b.weight.item()
    optimizer = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=1.0)
    update(3 * a.weight.sum() + 4 * b.weight.sum(), [a, b], optimizer, torch.amp.GradScaler("cpu", enabled=False), clip)
    moved = [before - after.weight.item() for before, after in zip(start, (a, b), strict=True)]
    assert moved == pytest.approx([3, 4] if clip == 0 else [0.3, 0.4], rel=1e-4)


def test_average_of_weights():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(model[0].weight, 1.0)
    average = Average(model, 0.25)
    expected = 1.0
    for number in range(1, 4):
        nn.init.constant_(model[0].weight, float(number))
        model[1].running_mean.fill_(number)
        average.update_parameters(model)
        decay = min(0.25, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * number
    assert average.module[0].weight.item() == pytest.approx(expected)
    assert average.module[1].running_mean.item() == 3


# ---- devices


def test_precision():
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("auto", CPU) in {"fp32", "bf16"}
    with autocast(CPU, "bf16"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


def test_auto_is_bf16_only_where_it_is_native(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert resolve_precision("auto", CPU) == ("bf16" if native else "fp32")
    assert resolve_precision("auto", torch.device("mps")) == "fp32"


def test_a_device_that_is_not_there_is_named():
    assert resolve_device("cpu") == CPU
    with pytest.raises(UserError, match=r"'tpu' is not available here; use auto or one of: .*cpu"):
        resolve_device("tpu")


# ---- the loop


def test_validation_error_is_a_mean_over_subjects_not_over_samples(store):
    chosen = samples_of(open_store(store), {"s1", "s2"})
    uneven = Samples(chosen.images, chosen.rows[:50], chosen.target[:50], chosen.subject[:50], 0.5, 0.5)
    model = Linear()
    images = torch.from_numpy(uneven.images[uneven.rows]).float() / 127.5 - 1
    predicted = angles_to_vector(model(images).detach().numpy())
    errors = angular_error_deg(predicted, angles_to_vector(uneven.target))
    expected = (errors[:40].mean() + errors[40:].mean()) / 2
    assert validation_error(model, uneven, CPU) == pytest.approx(expected, rel=1e-5)
    assert abs(expected - errors.mean()) > 1e-3


def test_the_error_of_points_is_their_distance_in_pixels(points):
    chosen = samples_of(open_store(points), {"s1", "s2"})

    class Middle(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.5, 0.375]).expand(len(x), 2)

    off = np.hypot(*(chosen.target - np.array([320.0, 240.0])).T)
    expected = {name: off[chosen.subject == name].mean() for name in ("s1", "s2")}
    assert subject_errors(Middle(), chosen, CPU) == pytest.approx(expected, rel=1e-5)
    assert validation_error(Middle(), chosen, CPU) == pytest.approx(np.mean(list(expected.values())), rel=1e-5)


@pytest.mark.parametrize(
    ("past", "patience", "delta", "stop"),
    [
        ([5, 4, 4, 4], 3, 0, False),
        ([5, 4, 4, 4, 4], 3, 0, True),
        ([5, 4, 4, 4, 3.9], 3, 0, False),
        ([5, 4.95, 4.9], 2, 0.2, True),  # falls that are too small
        ([5, 4.9, 4.7], 2, 0.2, False),  # together they are a fall
        ([5], 1, 0, False),
        ([5, 6], 1, 0, True),
    ],
)
def test_stalled(past, patience, delta, stop):
    assert stalled(past, EarlyStopping(patience=patience, delta=delta)) is stop
    assert not stalled(past, None)


def test_early_stopping_ends_a_run_and_each_cycle(store, split):
    some, validation = samples(store, split)
    block = training(epochs=9, early_stopping={"patience": 2, "delta": 1e3})
    assert len(fit(Linear(), some, validation, regime(supervised(mse), block), 0, CPU).history) == 3
    called = []
    twice = regime(supervised(mse), block, cycles=2, before_cycle=lambda *state: called.append(state))
    fitted = fit(Linear(), some, validation, twice, 0, CPU)
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3, 4, 5, 6]
    assert [row["lr"] for row in fitted.history[3:]] == [row["lr"] for row in fitted.history[:3]]
    assert len(called) == 2


def test_the_best_epoch_is_kept(store, split):
    """With a learning rate that jumps up, a later epoch is worse, and the better weights come back."""
    some, validation = samples(store, split)
    model = Linear()
    rising = {"schedule": "step", "step_epochs": 3, "step_factor": 300.0, "warmup_epochs": 0, "learning_rate": 3e-4}
    block = TRAINING.model_copy(update={"epochs": 5, **rising})  # no setting that a user may choose
    fitted = fit(model, some, validation, regime(supervised(mse), block), 0, CPU)
    errors = [row["validation_error"] for row in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmin(errors)) <= 3
    assert fitted.validation_error == min(errors) < errors[-1]
    assert validation_error(model, validation, CPU) == fitted.validation_error
    assert not model.training


def test_the_average_is_what_is_validated_and_kept(store, split):
    some, validation = samples(store, split)
    model = Linear()
    fitted = fit(model, some, validation, regime(supervised(mse), training(ema=0.9)), 0, CPU)
    assert validation_error(model, validation, CPU) == fitted.validation_error
    other = Linear()
    assert fit(other, some, validation, regime(supervised(mse)), 0, CPU).history != fitted.history
    assert not torch.equal(other.layers[1].weight, model.layers[1].weight)


def test_dropout_repeats_whatever_was_drawn_before(store, split):
    some, validation = samples(store, split)
    histories = []
    for draws_before in (1, 2):
        model = Linear()
        model.layers.insert(1, nn.Dropout(0.5))
        torch.rand(draws_before)
        fitted = fit(model, some, validation, regime(supervised(mse)), 0, CPU)
        histories.append([row["train_loss"] for row in fitted.history])
    assert histories[0] == histories[1]


def test_cycles_repeat_the_schedule_and_call_the_hook(store, split):
    some, validation = samples(store, split)
    called = []
    block = training(epochs=2, warmup_epochs=0, schedule="step", step_epochs=1)

    def note(cycle: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        called.append((cycle, len(optimizer.state)))
        return {"cycle": cycle}

    fitted = fit(Linear(), some, validation, regime(supervised(mse), block, cycles=2, before_cycle=note), 0, CPU)
    np.testing.assert_allclose([row["lr"] for row in fitted.history], [2e-3, 2e-4, 2e-3, 2e-4])
    assert called == [(0, 0), (1, 2)]  # one optimizer goes through all cycles
    assert fitted.told == [{"cycle": 0}, {"cycle": 1}]
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3, 4]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_and_keeps_fp32_weights(store, split, precision):
    some, validation = samples(store, split)
    torch.manual_seed(0)
    model = build(SPEC)
    fitted = fit(model, some, validation, regime(supervised(smooth_l1), training(precision=precision)), 0, CPU)
    assert fitted.precision == precision
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]


def test_a_loss_that_is_not_finite_names_the_run_and_the_mend(store, split):
    some, validation = samples(store, split)
    block = training(learning_rate=1e30, optimizer="sgd", clip_norm=0)
    with pytest.raises(UserError, match=r"runs/toy: loss .* epoch 1; lower training\.learning_rate \(it is 1e\+30\)"):
        fit(Linear(), some, validation, regime(supervised(mse), block), 0, CPU, label="runs/toy")


def test_tensorboard_is_optional(store, split, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    some, validation = samples(store, split)
    with pytest.raises(UserError, match="TensorBoard is not installed; pip install"):
        fit(Linear(), some, validation, regime(supervised(mse)), 0, CPU, log_dir=tmp_path / "logs")
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_scalars(store, split, tmp_path):
    pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    some, validation = samples(store, split)
    fitted = fit(Linear(), some, validation, regime(supervised(mse)), 0, CPU, log_dir=tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    logged = [event.value for event in events.Scalars("validation_error")]
    np.testing.assert_allclose(logged, [row["validation_error"] for row in fitted.history], rtol=1e-6)
    assert events.Graph().node


class Untraceable(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("no tracer, please")
        return super().forward(x)


def test_a_network_that_cannot_be_traced_is_trained_all_the_same(store, split, tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")
    some, validation = samples(store, split)
    fitted = fit(Untraceable(), some, validation, regime(supervised(mse)), 0, CPU, log_dir=tmp_path)
    captured = capsys.readouterr()
    assert "no graph, the network cannot be traced (no tracer, please)" in captured.err
    assert captured.out == ""
    assert len(fitted.history) == 2


def test_tensorboard_changes_no_weights(base, store, split, tmp_path):
    pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")
    weights = run(settings({"tensorboard": True, "tag": "mine"}), store, split, tmp_path / "run")
    assert weights.read_bytes() == base.read_bytes()
    assert [path.parent.name for path in (tmp_path / "run" / "tensorboard").rglob("events.*")] == ["mine"]


# ---- the stage


def test_a_run_learns_and_leaves_three_files(store, split, tmp_path):
    out = tmp_path / "run"
    chosen = settings({"epochs": 8})
    run(chosen, store, split, out, source="abc")
    assert sorted(path.name for path in out.iterdir()) == ["history.csv", "model.safetensors", "run.json"]
    with open(out / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    facts = json.loads((out / "run.json").read_text())
    errors = [float(row["validation_error"]) for row in rows]
    assert facts["validation_error"] == pytest.approx(min(errors), rel=1e-5)
    assert facts["best_epoch"] == 1 + int(np.argmin(errors))
    assert facts["validation_errors"] == {"s2": facts["validation_error"]}
    assert facts["unit"] == "deg"
    assert facts["subjects"] == {"train": 5, "validation": 1}
    assert facts["samples"] == {"train": 200, "validation": 40}
    assert (facts["source"], facts["precision"]) == ("abc", "fp32")
    assert TrainSettings.model_validate(facts["settings"]) == chosen
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["machine"]["cores"] >= 1
    _, validation = samples(store, split)
    mean = np.array([[0.0, 0.0]])
    untaught = angular_error_deg(angles_to_vector(validation.target), angles_to_vector(mean)).mean()
    assert facts["validation_error"] < 0.5 * untaught


MIRRORLESS = AUGMENTATION.model_copy(update={"flip": 0.0})


def test_a_gaze_point_is_learnt_in_pixels(points, split, tmp_path):
    changes = {"epochs": 8, "loss": "l1", "normalise": "training"}
    weights = run(settings(changes, MIRRORLESS, model=POINT_SPEC), points, split, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["unit"] == "px"
    chosen = samples_of(open_store(points), {"s3", "s4", "s5", "s6", "s7"})
    untaught = np.hypot(*(samples_of(open_store(points), {"s2"}).target - chosen.target.mean(axis=0)).T).mean()
    assert facts["validation_error"] < 0.5 * untaught
    metadata = read_metadata(weights)
    assert (metadata["mean"], metadata["std"]) == pixel_statistics(chosen)
    assert (metadata["units"], metadata["target_scale"]) == ("px", [SCENE[0], SCENE[0]])


def test_the_same_shape_from_nothing(base, store, split, tmp_path):
    """`shape` takes the network's spec and none of its weights."""
    assert run(settings(), store, split, tmp_path / "run", shape=base).read_bytes() == base.read_bytes()


def test_same_arguments_same_bytes(base, store, split, tmp_path):
    torch.manual_seed(99)
    assert run(settings(), store, split, tmp_path / "again", source="later").read_bytes() == base.read_bytes()
    assert run(settings(seed=1), store, split, tmp_path / "other").read_bytes() != base.read_bytes()


def test_distillation_and_rebirth_repeat_to_the_byte(base, store, split, tmp_path):
    chosen = settings(kinds={"kd": {"random_target": True}, "rebirth": {**REBIRTH, "epochs": 1}})
    first, again = (run(chosen, store, split, tmp_path / name, base, base).read_bytes() for name in ("first", "again"))
    assert first == again
    assert first != base.read_bytes()


def test_another_architecture_teaches(base, store, split, tmp_path):
    feature = {"stages": [0, 1], "temperature": 0.5, "masked": 0.1, "attention": 0.1, "non_local": 0.1}
    kinds = {"kd": {"reliability": True, "feature": feature}}
    chosen = settings(kinds=kinds, model={**SPEC, "arch": "resnet10_wide"})
    metadata = read_metadata(run(chosen, store, split, tmp_path / "kd", teacher=base))
    assert metadata["model"]["arch"] == "resnet10_wide"
    assert metadata["patch"] == {"kind": "eyes", "height": HEIGHT, "width": WIDTH}


def test_rebirth_starts_from_the_parent_and_runs_its_generations(base, store, split, tmp_path):
    run(settings(kinds={"rebirth": REBIRTH}), store, split, tmp_path / "reborn", base)
    history = (tmp_path / "reborn" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + REBIRTH["generations"] * REBIRTH["epochs"]


def test_images_without_labels_are_seen_and_their_labels_are_not(base, store, split, tmp_path):
    chosen, images, labels = settings(kinds={"pseudo_labels": {}}), tmp_path / "images.h5", tmp_path / "labels.h5"
    for path in (images, labels):
        path.write_bytes(store.read_bytes())
        with h5py.File(path, "r+") as file:
            column = "image" if path == images else "target"
            file[column][:] = file[column][:] // 2 if path == images else 0.1

    def weights(name, pool):
        return run(chosen, store, split, tmp_path / name, teacher=base, unlabelled=pool).read_bytes()

    same, unlike = weights("same", [store]), weights("unlike", [images])
    assert len({base.read_bytes(), same, unlike}) == 3
    assert weights("labels", [labels]) == same
    refused(tmp_path, "pseudo_labels and stores without labels go together", chosen, store, split, teacher=base)
    refused(tmp_path, "give both or neither", settings(), store, split, unlabelled=[store])


def test_the_test_subjects_are_not_looked_at(base, store, split, tmp_path):
    """Other pixels and labels of the test subjects: the same bytes of weights."""
    opened = open_store(store)
    altered = tmp_path / "toy.h5"
    altered.write_bytes(store.read_bytes())
    with h5py.File(altered, "r+") as file:
        for row in np.flatnonzero(np.isin(opened.subject, ["s0", "s1"])):
            file["image"][row] = 0
            file["target"][row] = 0.1
    assert run(settings(), altered, split, tmp_path / "run").read_bytes() == base.read_bytes()


def test_another_fold_trains_on_other_subjects(base, store, split, tmp_path):
    assert run(settings(fold=1), store, split, tmp_path / "run").read_bytes() != base.read_bytes()


def refused(tmp_path, match, chosen, store, split, **links) -> None:
    out = tmp_path / "refused"
    with pytest.raises(UserError, match=match) as caught:
        run(chosen, store, split, out, **links)
    assert "\n" not in str(caught.value)
    assert not out.exists() or list(out.iterdir()) == []


def test_a_diverging_run_leaves_nothing(store, split, tmp_path):
    chosen = settings({"learning_rate": 1e30, "optimizer": "sgd", "clip_norm": 0.0})
    refused(tmp_path, r"refused: loss .*learning_rate", chosen, store, split)


def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(base, store, split, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "write_history", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(settings(), store, split, out)
    assert not (out / "run.json").exists()
    assert run(settings(), store, split, out).read_bytes() == base.read_bytes()


def test_a_store_of_another_size_is_refused(split, tmp_path):
    other = write_toy_store(tmp_path / "wide.h5", 4, {"kind": "eyes", "height": 24, "width": 64})
    refused(tmp_path, r"wide\.h5: holds images of 1x24x64, the network takes 1x24x48", settings(), other, split)


def test_a_parent_or_shape_of_another_model_is_refused(base, store, split, tmp_path):
    wider = settings(model={**SPEC, "width": 0.25})
    for link in ("parent", "shape"):
        match = r"model\.safetensors: holds the model resnet18"
        refused(tmp_path, match, wider, store, split, **{link: base})


def test_a_teacher_for_another_patch_is_refused(store, split, tmp_path):
    spec = {**SPEC, "input": [1, 32, 32]}
    save_weights(tmp_path / "teacher.safetensors", build(spec), spec)
    match, teacher = "is a teacher for images of 1x32x32, the student", tmp_path / "teacher.safetensors"
    refused(tmp_path, match, settings(kinds={"kd": {}}), store, split, teacher=teacher)


def test_a_teacher_of_other_numbers_is_refused(base, store, split, points, tmp_path):
    angles = {"mean": 0.5, "std": 0.5, "units": "rad"}
    save_weights(tmp_path / "teacher.safetensors", build(POINT_SPEC), POINT_SPEC, angles)
    chosen = settings(augmentation=MIRRORLESS, kinds={"kd": {}}, model=POINT_SPEC)
    match, teacher = r"teacher\.safetensors: predicts rad, the data set is in px", tmp_path / "teacher.safetensors"
    refused(tmp_path, match, chosen, points, split, teacher=teacher)
    chosen = settings({"normalise": "training"}, kinds={"kd": {}})
    match = r"normalises images by mean and deviation \[0\.5, 0\.5\].*normalise"
    refused(tmp_path, match, chosen, store, split, teacher=base)


def test_mirror_images_of_points_are_refused(points, split, tmp_path):
    match = r"augmentation\.flip: 0\.1, but .* 4 views .* set it to 0"
    refused(tmp_path, match, settings(model=POINT_SPEC), points, split)


def test_an_angular_loss_of_points_is_refused(points, split, tmp_path):
    chosen = settings({"loss": "angular"}, MIRRORLESS, model=POINT_SPEC)
    refused(tmp_path, r"training\.loss: angular compares gaze angles", chosen, points, split)


def test_kd_and_teacher_come_together(base, store, split, tmp_path):
    taught = settings(kinds={"kd": {}})
    refused(
        tmp_path,
        "refused: no kind learns from a teacher and .*; give both or neither",
        settings(),
        store,
        split,
        teacher=base,
    )
    refused(tmp_path, "refused: kd is set and the teacher is None; give both or neither", taught, store, split)


def test_a_split_with_an_unknown_subject_is_refused(store, split, tmp_path):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(split.read_text().replace("s7,train", "s8,train"))
    refused(tmp_path, "has no subject 's8'", settings(), store, wrong)
