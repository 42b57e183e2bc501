import copy
import os
from pathlib import Path

import pytest

from gazepipe import config
from gazepipe.plan import Job, Plan


@pytest.fixture
def raw(repository) -> dict:
    return config.read(repository / "config.yaml")


def keys(raw: dict) -> dict[str, str]:
    plan = Plan(config.load(raw))
    run = {"dataset": "columbia-drawn", "model": "resnet18", "fold": "0", "seed": "0"}
    other = {**run, "model": "resnet10_wide"}
    return {
        "fetch": plan.key("fetch", dataset="columbia-drawn"),
        "prepare": plan.key("prepare", dataset="columbia-drawn"),
        "split": plan.key("split", dataset="columbia-drawn"),
        "base": plan.key("train", method="base", **run),
        "kd": plan.key("train", method="kd", **run),
        "kd_prune": plan.key("train", method="kd_prune", **run),
        "other model": plan.key("train", method="base", **other),
        "predict kd": plan.key("predict", method="kd", test="mpiifacegaze-drawn", **run),
        "profile": plan.key("profile", model="resnet18", method="base"),
        "tables": plan.key("tables"),
    }


def changed(raw: dict, path: str, value: object) -> set[str]:
    before = keys(raw)
    raw = copy.deepcopy(raw)
    *parents, last = path.split("/")
    block = raw
    for name in parents:
        block = block.setdefault(name, {})
    block[last] = value
    after = keys(raw)
    return {name for name in before if before[name] != after[name]}


TRAINED = {"base", "kd", "kd_prune", "other model", "predict kd", "tables"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("datasets/columbia-drawn/source/drawn/seed", 77, TRAINED | {"fetch", "prepare", "split"}),
        ("patch/width", 96, TRAINED | {"prepare", "split", "profile"}),
        ("datasets/columbia-drawn/split/seed", 5, TRAINED | {"split"}),
        ("training/weight_decay", 0.5, TRAINED),
        ("methods/kd/training", {"learning_rate": 0.5}, {"kd", "kd_prune", "predict kd", "tables"}),
        ("methods/kd_prune/rebirth/share", 0.2, {"kd_prune", "tables"}),
        ("models/resnet18/width", 0.5, {"base", "kd", "kd_prune", "predict kd", "profile", "tables"}),
        ("models/resnet10_wide/training", {"epochs": 3}, {"other model", "tables"}),
        ("profiling/seconds", 9.0, {"profile", "tables"}),
        ("statistics/seed", 9, {"tables"}),
        ("models/simvit/width", 0.25, set()),
        ("benchmark/models", ["resnet18"], {"tables"}),
    ],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(raw, path, value, expected):
    assert changed(raw, path, value) == expected


def test_table_jobs_are_the_whole_selection(raw):
    plan = Plan(config.load(raw))
    jobs = plan.table_jobs()
    chosen = plan.config.benchmark
    folds = sum(len(config.folds(plan.config, name)) for name in chosen.datasets)
    networks = len(chosen.models) * len(chosen.methods) * len(chosen.seeds)
    tests = len(chosen.datasets)
    assert len(jobs) == len(set(jobs)) == len(chosen.models) + folds * tests * (networks + 1)
    outputs = [plan.outputs(job)[0] for job in jobs]
    assert len(set(outputs)) == len(outputs)


def test_a_named_run_has_folders_of_its_own(raw):
    plan = Plan(config.load({**raw, "run": "other"}))
    assert all(plan.outputs(job)[0].startswith("results/other/") for job in plan.table_jobs())
    assert plan.block("fetch", dataset="columbia-drawn")["folder"] == "data/other/raw/columbia-drawn"


def test_times_are_brought_in_line_and_otherwise_left_alone(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = Plan(config.load(raw))
    run = {"dataset": "columbia-drawn", "model": "resnet18", "method": "base", "fold": "1", "seed": "0"}
    store, weights = (
        Path(plan.outputs(job)[0]) for job in (Job.of("prepare", dataset="columbia-drawn"), Job.of("train", **run))
    )
    predictions = Path(plan.outputs(Job.of("predict", **run, test="columbia-drawn"))[0])
    for path, seconds in ((store, 300), (weights, 100), (predictions, 400)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (seconds, seconds))
    plan.settle_times()
    assert [path.stat().st_mtime for path in (store, weights, predictions)] == [300, 300, 400]
