"""What is there for GPUs, tested without one: no step waits for its device, batches read ahead are the batches, and a
compiled network is the network.

The device `meta` stands for a GPU where only waiting matters: it holds no numbers, so whatever would read one fails.
"""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from toy_store import HEIGHT, WIDTH, write_toy_store
from toy_training import AUGMENTATION, FEATURE, SPEC, training

from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.methods.distillation import feature_adapters, feature_loss, outputs, prepare, reliability_weight
from gazepipe.methods.pseudo_labels import Labelled, drawn
from gazepipe.methods.settings import KD, FeatureKD
from gazepipe.models.registry import build
from gazepipe.training.compiled import MANY_STEPS, SMALL_BATCH, compiled, is_on, stepwise, uses_graphs
from gazepipe.training.device import memory_told, standard_normal
from gazepipe.training.fit import prepared, update
from gazepipe.training.losses import mse, pearson, predicted, supervised
from gazepipe.training.method import Context, Regime
from gazepipe.training.optim import build_optimizer
from gazepipe.training.run import Average, Run
from gazepipe.training.samples import Samples, batches, samples_of
from gazepipe.training.settings import Augmentation, Training
from gazepipe.training.transfer import Slot, prefetched, read_ahead, sent

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Samples:
    return samples_of(open_store(write_toy_store(tmp_path_factory.mktemp("store") / "toy.h5")), None)


def slots(count: int = 3) -> list[Slot]:
    return [Slot(pinned=False) for _ in range(count)]


def readers() -> int:
    return sum(thread.name == "gazepipe-reader" for thread in threading.enumerate())


# ---- read ahead


@pytest.mark.parametrize("count", [1, 3])
def test_batches_read_ahead_are_the_batches(samples, count):
    order = np.random.default_rng(0).permutation(len(samples))
    expected = list(batches(samples, 48, order)) + list(batches(samples, 100))  # of two sizes, the last one smaller
    found = [tuple(each.clone() for each in slot.tensors) for slot in read_ahead(iter(expected), slots(count))]
    assert len(found) == len(expected)
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))
    assert readers() == 0


def test_a_batch_stays_until_the_next_is_asked_for():
    """However fast the thread reads, it fills no slot that is in use."""
    numbers = ((torch.full((4,), number),) for number in range(200))
    for number, slot in enumerate(read_ahead(numbers, slots(2))):
        before = slot.tensors[0].clone()
        threading.Event().wait(0.001 if number % 10 == 0 else 0)
        assert torch.equal(slot.tensors[0], before)
        assert before.tolist() == [number] * 4


def test_an_error_of_the_reader_comes_after_the_batches_before_it():
    def read() -> Iterator[tuple[torch.Tensor]]:
        yield (torch.zeros(1),)
        raise UserError("store.h5: is cut short")

    found = []
    with pytest.raises(UserError, match="cut short"):
        found.extend(slot.tensors[0].item() for slot in read_ahead(read(), slots()))
    assert found == [0.0]
    assert readers() == 0


def test_reading_ends_where_it_is_closed_early():
    endless = ((torch.zeros(1),) for _ in iter(int, 1))
    reading = read_ahead(endless, slots())
    next(reading)
    assert readers() == 1
    reading.close()
    assert readers() == 0


def test_without_a_gpu_nothing_is_read_ahead(samples):
    expected = list(batches(samples, 100))
    for one, other in zip(expected, prefetched(iter(expected), CPU), strict=True):
        assert one is other
    assert readers() == 0


def test_noise_of_the_cpu_is_its_generators():
    found = standard_normal(torch.Size([3, 4]), torch.Generator().manual_seed(7), CPU)
    assert torch.equal(found, torch.randn(3, 4, generator=torch.Generator().manual_seed(7)))


def test_what_is_sent_to_the_cpu_is_the_same_tensor():
    tensor = torch.arange(3.0)
    assert sent(tensor, CPU) is tensor
    assert sent(tensor, CPU, torch.float64).dtype == torch.float64


# ---- no waiting


class Copies(TorchDispatchMode):
    """Counts the copies to the device, and those of them that the CPU would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = self.waited = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default:
            self.count(args[0], kwargs.get("device") or args[0].device, kwargs.get("non_blocking", False))
        elif function is torch.ops.aten.copy_.default:
            self.count(args[1], args[0].device, args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        return function(*args, **kwargs)

    def count(self, source: torch.Tensor, to: torch.device, non_blocking: bool) -> None:
        if source.device.type == "cpu" and torch.device(to).type == "meta":
            self.sent += 1
            self.waited += not non_blocking


@pytest.mark.parametrize("read", [torch.Tensor.item, torch.Tensor.cpu, torch.nonzero, bool], ids=lambda f: f.__name__)
def test_the_device_of_these_tests_cannot_be_read(read):
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.zeros(1, device=META))


def test_waiting_for_a_copy_is_seen():
    with Copies() as copies:
        torch.zeros(3).to(META)
        torch.zeros(3).to(META, non_blocking=True)
        torch.empty(3, device=META).copy_(torch.zeros(3))
    assert (copies.sent, copies.waited) == (3, 2)


def objective_of(name: str, student: nn.Module, train: Samples):
    """A supervised objective, or one with a teacher."""
    if name == "labels":
        return supervised(mse)
    teacher, draws = build(SPEC), torch.Generator().manual_seed(1)
    kd = {"teacher": KD(), "mixed": KD(mixed=0.5), "random targets": KD(random_target=True)}[name]
    objective, _ = prepare(kd, student, teacher, "smooth_l1", train, draws, META)
    return objective


@pytest.mark.parametrize("name", ["labels", "teacher", "mixed", "random targets"])
def test_no_step_waits_for_the_device(samples, name):
    """Two steps of the loop, with every augmentation and the average of the weights. (Fused optimizers do not know the
    device, so it is SGD.)"""
    each = dict.fromkeys(("crop", "flip", "blur", "sharpness", "mixup", "pairs"), 0.16)
    block = training(optimizer="sgd", ema=0.9, batch_size=64)
    model = build(SPEC).to(META).train()
    regime = Regime(objective_of(name, model, samples), block, Augmentation(**each))
    draws = torch.Generator().manual_seed(0)
    optimizer, scaler = build_optimizer(block, [model]), torch.amp.GradScaler("cpu", enabled=False)
    run = Run(model, regime, optimizer, scaler, META, "fp32", {"augmentation": draws}, average=Average(model, 0.9))
    order = np.random.default_rng(0).permutation(len(samples))[:128]
    with Copies() as copies:
        for images, target in prepared(prefetched(batches(samples, 64, order), META), samples, run):
            assert images.device == target.device == META
            loss = regime.objective(model, images, target)
            update(loss, [model], optimizer, scaler, block.clip_norm)
            run.average.update_parameters(model)
            run.losses.append(loss.detach())
    assert len(run.losses) == 2
    assert torch.stack(run.losses).device == META
    assert copies.sent > 20
    assert copies.waited == 0


def test_other_terms_of_a_step_do_not_wait_either(samples):
    feature = FeatureKD.model_validate(FEATURE)
    student, teacher = build(SPEC).to(META), build(SPEC).to(META)
    adapters = feature_adapters(feature, student, teacher, 0).to(META)
    images = torch.zeros(4, 1, HEIGHT, WIDTH, device=META)
    (_, ours), (prediction, theirs) = outputs(student, images, True), outputs(teacher, images, True)
    pool = [Labelled(samples, torch.zeros(len(samples), 2))]
    with Copies() as copies:
        total = sum(
            feature_loss(ours[stage], theirs[stage], adapter, feature)
            for adapter, stage in zip(adapters, feature.stages, strict=True)
        )
        total = total + pearson(student, 512) + reliability_weight(prediction, prediction, 2.0).mean()
        total.backward()
        more, label = drawn(pool, AUGMENTATION, 4, torch.Generator().manual_seed(0), META)
    assert total.device == more.device == label.device == META
    assert copies.sent > 0
    assert copies.waited == 0


# ---- torch.compile


class Small(nn.Module):
    """Convolution, batch norm and a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def context(device: torch.device = CPU, size: int = 8, count: int = 64, **changes) -> Context:
    images = np.broadcast_to(np.uint8(0), (count, 1, size, size))
    some = Samples(images, np.arange(count), np.zeros((count, 2)), np.array(["a"] * count), 0.5, 0.5)
    return Context(Training(**changes), Augmentation(), some, 0, device, {})


def test_a_compiled_network_learns_the_same_and_keeps_its_names():
    torch.manual_seed(0)
    images, target = torch.randn(8, 1, 8, 8), torch.randn(8, 2)
    states = []
    for forward in (predicted, compiled(predicted, context(compile=True), backend="eager")):
        torch.manual_seed(1)
        model = Small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            update(
                supervised(mse, forward)(model, images, target),
                [model],
                optimizer,
                torch.amp.GradScaler("cpu", enabled=False),
                1.0,
            )
        states.append(model.state_dict())
    plain, fast = states
    assert list(plain) == list(fast)
    assert all(torch.equal(plain[name], fast[name]) for name in plain)


def test_without_a_compiler_a_line_says_so_and_the_network_computes_as_it_is(capsys):
    def broken(graph, inputs):
        raise RuntimeError("no compiler is here")

    model, images = Small(), torch.randn(4, 1, 8, 8)
    forward = compiled(predicted, context(compile=True), backend=broken)
    expected = predicted(model.eval(), images)
    assert torch.equal(forward(model, images), expected)
    assert torch.equal(forward(model, images), expected)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("training.compile: not compiled (")
    assert "no compiler is here" in said[0]


def test_errors_of_the_network_itself_are_not_taken_for_the_compilers():
    forward = compiled(predicted, context(compile=True), backend="eager")
    with pytest.raises(Exception, match="expected input"):
        predicted(Small(), torch.randn(4, 3, 8, 8))
    with pytest.raises(Exception, match="expected input"):
        forward(Small(), torch.randn(4, 3, 8, 8))


def test_auto_compiles_long_trainings_on_a_gpu_only():
    cuda, steps = torch.device("cuda"), {"batch_size": 4, "epochs": MANY_STEPS // 16}
    assert is_on(context(cuda, **steps))
    assert not is_on(context(cuda, **{**steps, "epochs": MANY_STEPS // 16 - 1}))
    assert not is_on(context(cuda, **steps, processes=2))
    assert not is_on(context(CPU, **steps))
    assert not is_on(context(cuda, **steps, compile=False))
    assert is_on(context(CPU, compile=True))
    assert compiled(predicted, context(CPU)) is predicted


def test_small_batches_become_graphs_where_they_are_compiled():
    cuda, largest = torch.device("cuda"), SMALL_BATCH // 64**2
    objective = supervised(mse)
    small, large = (context(cuda, 64, batch_size=size, compile=True) for size in (largest, largest + 1))
    assert uses_graphs(small)
    assert not uses_graphs(large)
    assert not uses_graphs(context(cuda, 64, batch_size=largest, compile=False))
    assert not uses_graphs(context(CPU, 64, batch_size=largest, compile=True))
    assert stepwise(objective, small) is not objective
    assert stepwise(objective, large) is objective


def test_keys_are_as_before_unless_the_setting_is_set():
    assert "compile" not in Training().deciding()
    assert Training().compile == "auto"
    assert Training(compile=False).deciding()["compile"] is False
    assert Training.model_validate(Training(compile=True).model_dump()).compile is True


# ---- memory


def test_too_little_memory_of_a_gpu_is_one_line():
    text = r"runs/a: .*training\.batch_size 64; lower it, or .*GAZEPIPE_JOBS_PER_GPU"
    with pytest.raises(UserError, match=text), memory_told("runs/a", 64):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="other"), memory_told("runs/a", 64):
        raise RuntimeError("other")
