"""Controls that cannot learn the gaze: what they are trained on, and what is left as it was drawn."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from toy_store import write_toy_split, write_toy_store
from toy_training import SPEC, TRAINING, run, settings

from gazepipe.common.units import errors
from gazepipe.datasets.store import open_store
from gazepipe.methods.placebo import CannotLearn, take_statistics
from gazepipe.methods.settings import Kinds, Placebo
from gazepipe.models.registry import build
from gazepipe.models.weights import load_weights
from gazepipe.training.fit import derived_seed, validation_error
from gazepipe.training.method import Context
from gazepipe.training.samples import samples_of

SHUFFLED, UNTRAINED = {"placebo": {"learns": "shuffled_labels"}}, {"placebo": {"learns": "nothing"}}
LONG = {"epochs": 6, "learning_rate": 4e-3}


def _context(samples, seed):
    return Context(TRAINING, settings().augmentation, samples, seed, torch.device("cpu"), {})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placebo")
    return write_toy_store(folder / "toy.h5", 40), write_toy_split(folder / "toy.csv")


def trained(files, out, **changes):
    """(network, header, facts) of a run."""
    weights = run(settings(**changes), *files, out)
    return *load_weights(weights), json.loads((out / "run.json").read_text())


def kind(samples, seed: int = 0, **chosen) -> CannotLearn:
    draws = torch.Generator().manual_seed(seed)
    return CannotLearn(Placebo(**chosen), _context(samples, seed), draws)


@pytest.fixture
def samples(files):
    return samples_of(open_store(files[0]), {"s3", "s4", "s5", "s6", "s7"})


def test_labels_are_permuted_once_and_images_stay(samples):
    found = kind(samples).samples(samples)
    assert np.array_equal(found.rows, samples.rows)
    assert np.array_equal(found.subject, samples.subject)
    assert np.array_equal(np.sort(found.target, axis=0), np.sort(samples.target, axis=0))
    whole = {tuple(pair) for pair in samples.target.tolist()}
    assert {tuple(pair) for pair in found.target.tolist()} == whole, "pitch and yaw stay together"
    assert (found.target == samples.target).all(axis=1).mean() < 0.05
    assert np.array_equal(kind(samples).samples(samples).target, found.target)
    assert not np.array_equal(kind(samples, seed=1).samples(samples).target, found.target)
    assert kind(samples, learns="nothing").samples(samples) is samples


def test_across_subjects(samples):
    """Labels of other subjects, too: within a subject they would still say whose face it is."""
    found = kind(samples).samples(samples)
    owner = {tuple(pair): name for pair, name in zip(samples.target.tolist(), samples.subject, strict=True)}
    own = [owner[tuple(pair)] == name for pair, name in zip(found.target.tolist(), samples.subject, strict=True)]
    assert np.mean(own) == pytest.approx(0.2, abs=0.1)


def test_a_network_with_shuffled_labels_learns_nothing_of_the_gaze(files, tmp_path):
    _, _, learnt = trained(files, tmp_path / "base", training=LONG)
    _, _, facts = trained(files, tmp_path / "shuffled", training=LONG, kinds=SHUFFLED)
    assert facts["epochs"] == learnt["epochs"] == 6
    validation = samples_of(open_store(files[0]), {"s2"})
    mean = samples_of(open_store(files[0]), {"s3", "s4", "s5", "s6", "s7"}).target.mean(axis=0)
    by_mean = errors(np.broadcast_to(mean, (len(validation), 2)), validation.target, "rad").mean()
    assert learnt["validation_error"] < 0.6 * by_mean
    assert facts["validation_error"] > 0.85 * by_mean
    assert (facts["settings"]["kinds"]["placebo"], facts["subjects"]) == (SHUFFLED["placebo"], learnt["subjects"])


def test_an_untrained_network_keeps_its_weights(files, tmp_path):
    model, _, facts = trained(files, tmp_path / "untrained", kinds=UNTRAINED)
    torch.manual_seed(derived_seed(0, "init"))
    fresh = build(SPEC)
    for (name, found), expected in zip(model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(found, expected), name
    assert (facts["epochs"], facts["best_epoch"]) == (0, 0)
    assert (tmp_path / "untrained" / "history.csv").read_text() == "epoch,lr,train_loss,validation_error\n"
    validation = samples_of(open_store(files[0]), {"s2"})
    assert facts["validation_error"] == pytest.approx(validation_error(model.eval(), validation, torch.device("cpu")))
    assert facts["validation_errors"] == {"s2": pytest.approx(facts["validation_error"])}


def test_its_batch_statistics_are_those_of_the_training_images(files, samples):
    torch.manual_seed(0)
    model = build(SPEC)
    take_statistics(model, samples, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert not any(module.training for module in model.modules())
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    seen = (torch.from_numpy(samples.images[samples.rows]).float() / 255 - samples.mean) / samples.std
    with torch.no_grad():
        activations = first(seen)  # all 200 images are one batch
    torch.testing.assert_close(norm.running_mean, activations.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, activations.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1


def test_same_arguments_same_bytes(files, tmp_path):
    for name, kinds in (("shuffled", SHUFFLED), ("untrained", UNTRAINED)):
        one, other = (run(settings(kinds=kinds), *files, tmp_path / f"{name}{n}") for n in (0, 1))
        assert one.read_bytes() == other.read_bytes()
        seed = run(settings(kinds=kinds, seed=1), *files, tmp_path / f"{name}2")
        assert seed.read_bytes() != one.read_bytes()


def test_a_placebo_stands_alone():
    with pytest.raises(ValidationError, match="'placebo' stands alone: remove the other kinds"):
        Kinds(placebo={}, kd={})
    assert Kinds(placebo={}).epochs_of(6) == 6
    assert Kinds(**UNTRAINED).epochs_of(6) == 0
