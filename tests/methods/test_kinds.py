"""A kind of method costs two places, its settings and its class: a new one is declared and carried out here."""

import json
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from toy_store import write_toy_split, write_toy_store
from toy_training import TRAINING, run, settings

from gazepipe.common.settings import NonNegative
from gazepipe.methods.settings import MODULES, Kinds, KindSettings, TrainSettings, declared
from gazepipe.models.registry import build
from gazepipe.models.weights import load_weights
from gazepipe.training.fit import derived_seed
from gazepipe.training.losses import Objective, mse, supervised
from gazepipe.training.method import Context, Kind, Network, Recover, regime
from gazepipe.training.samples import Samples

# ---- a new kind, as a user would write it: "L2-SP", weight decay towards the parent (Li et al., ICML 2018, eq. 2)


class ToParent(KindSettings):
    """Weights are drawn to those of the parent."""

    code = f"{__name__}:DecayToParent"
    needs = "parent"

    weight: NonNegative = 0.1
    """Half the weight of the squared distance to the parent's weights."""


class DecayToParent(Kind):
    settings: ToParent

    def objective(self, base: Objective, network: Network) -> Objective:
        start = [parameter.detach().clone() for parameter in network[0].parameters()]

        def anchored(model: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            far = sum((p - s).square().sum() for p, s in zip(model.parameters(), start, strict=True))
            return base(model, images, target) + self.settings.weight / 2 * far

        return anchored


# ---- and one that uses every hook


class Everything(KindSettings):
    code = f"{__name__}:AllHooks"
    changes_network = True
    makes_a_shape = True


class AllHooks(Kind):
    calls: ClassVar[list] = []

    def start(self, network: Network, recover: Recover) -> Network:
        self.calls.append("start")
        spec = {**network[1], "width": 0.25}
        return recover("wider", lambda: (build(spec), spec), 1)

    def schedule(self, training, cycles):
        return training, 2 * cycles

    def objective(self, base: Objective, network: Network) -> Objective:
        self.calls.append(("objective", network[1]["width"], self.context.training.epochs))
        self.adapters = nn.Linear(2, 2)
        return lambda model, images, target: (self.adapters(model(images)) - target).square().mean()

    def before_cycle(self, cycle: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.calls.append((cycle, torch.rand(1, generator=self.draws).item()))


class MoreKinds(Kinds):
    to_parent: ToParent | None = None
    everything: Everything | None = None


class MoreSettings(TrainSettings):
    kinds: MoreKinds = MoreKinds()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Store, split and weights of a plain run."""
    folder = tmp_path_factory.mktemp("kinds")
    store, split = write_toy_store(folder / "toy.h5", 20), write_toy_split(folder / "toy.csv")
    return store, split, run(settings(), store, split, folder / "base")


def with_kinds(**kinds) -> MoreSettings:
    return MoreSettings.model_validate({**settings().model_dump(), "kinds": kinds})


def distance(a, b) -> float:
    (one, _), (other, _) = load_weights(a), load_weights(b)
    return sum((p - q).square().sum().item() for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_a_kind_that_is_declared_is_known_everywhere():
    assert declared(MoreKinds) == {**declared(Kinds), "to_parent": ToParent, "everything": Everything}
    assert list(MODULES) == ["placebo", "kd", "pseudo_labels", "rebirth", "shrink", "structural"]
    assert MoreKinds(everything={}).makes_a_shape
    assert not MoreKinds(to_parent={}).makes_a_shape
    assert MoreKinds(to_parent={}, kd={}).chosen.keys() == {"kd", "to_parent"}
    with pytest.raises(ValidationError, match="'rebirth', 'shrink', 'structural' and 'everything' each change"):
        MoreKinds(rebirth={}, everything={})


def test_the_objective_of_a_new_kind_by_value():
    torch.manual_seed(0)
    model, images, target = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.randn(3, 1, 2, 2), torch.randn(3, 2)
    kind = DecayToParent(ToParent(weight=0.5), None, torch.Generator())
    objective = kind.objective(supervised(mse), (model, {}))
    assert objective(model, images, target) == supervised(mse)(model, images, target)
    with torch.no_grad():
        model[1].bias += 2.0
        model[1].weight[0, 0] -= 3.0
    added = objective(model, images, target) - supervised(mse)(model, images, target)
    assert added.item() == pytest.approx(0.25 * (2 * 2.0**2 + 3.0**2))


def test_a_new_kind_trains(files, tmp_path):
    store, split, base = files
    free, weak, strong = (
        run(with_kinds(to_parent={"weight": weight}), store, split, tmp_path / f"{weight}", base)
        for weight in (0.0, 10.0, 1000.0)
    )
    assert distance(strong, base) < 0.5 * distance(weak, base) < 0.5 * distance(free, base)
    plain = run(settings(), store, split, tmp_path / "plain", base)
    assert distance(plain, free) == 0  # a penalty of no weight adds an exact 0
    facts = json.loads((tmp_path / "10.0" / "run.json").read_text())
    assert facts["settings"]["kinds"]["to_parent"] == {"weight": 10.0}


def test_it_stands_beside_other_kinds(files, tmp_path):
    store, split, base = files
    chosen, alone = with_kinds(kd={}, to_parent={"weight": 1000.0}), with_kinds(kd={})
    both, without = (
        run(each, store, split, tmp_path / name, base, base) for name, each in (("both", chosen), ("without", alone))
    )
    assert distance(both, base) < 0.5 * distance(without, base)


def test_every_hook_is_called_where_it_says(files, tmp_path):
    store, split, base = files
    AllHooks.calls.clear()
    weights = run(with_kinds(everything={}), store, split, tmp_path / "run", base)
    assert load_weights(weights)[1]["model"]["width"] == 0.25
    own = torch.Generator().manual_seed(derived_seed(0, "everything"))
    first, second = (torch.rand(1, generator=own).item() for _ in range(2))
    assert AllHooks.calls == [
        "start",
        ("objective", 0.25, 1), (0, first), (1, second),
        ("objective", 0.25, TRAINING.epochs), (0, first), (1, second),
    ]  # fmt: skip
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()[1:]
    assert [int(row.partition(",")[0]) for row in rows] == list(range(1, 2 * 1 + 2 * TRAINING.epochs + 1))


def test_objectives_schedules_and_adapters_are_put_together():
    class Twice(Kind):
        def schedule(self, training, cycles):
            return training.model_copy(update={"epochs": training.epochs + 1}), 2 * cycles

        def objective(self, base, network):
            self.adapters = self.settings
            return lambda *batch: 2 * base(*batch) + 1

    samples = Samples(np.zeros((1, 1, 2, 2)), np.arange(1), np.zeros((1, 2)), np.array(["a"]), 0.5, 0.5)
    context = Context(
        TRAINING.model_copy(update={"loss": "mse"}), settings().augmentation, samples, 0, torch.device("cpu"), {}
    )
    model, batch = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (torch.randn(3, 1, 2, 2), torch.randn(3, 2))
    modules = [nn.Linear(1, 1), nn.Linear(2, 2), None]
    kinds = {str(number): Twice(module, context, torch.Generator()) for number, module in enumerate(modules)}
    found = regime(kinds, (model, {}), context, settings().augmentation)
    torch.testing.assert_close(found.objective(model, *batch), 8 * supervised(mse)(model, *batch) + 7)
    assert (found.training.epochs, found.cycles) == (TRAINING.epochs + 3, 8)
    assert list(found.adapters) == modules[:2]
    assert list(found.generators) == ["0", "1", "2"]
    assert regime({}, (model, {}), context, settings().augmentation).adapters is None


def test_kinds_exist_and_are_not_imported_by_the_stage():
    """A plain run's source fingerprint follows imports, so it must not reach them."""
    code = (
        "import sys, gazepipe.methods.train, gazepipe.methods.settings as s; "
        "print(sorted(set(s.MODULES.values()) & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_loop_knows_no_method():
    code = (
        "import pkgutil, sys, importlib, gazepipe.training as t; "
        "[importlib.import_module(f'gazepipe.training.{m.name}') for m in pkgutil.iter_modules(t.__path__)]; "
        "print([name for name in sys.modules if name.startswith('gazepipe.methods')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
