import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy_config import PATH, toy_config

from gazepipe.config import load as config
from gazepipe.dag import runs, tables
from gazepipe.dag.overview import overview
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job, made
from gazepipe.dag.stages import STAGES
from gazepipe.dag.times import settle_times
from gazepipe.errors import UserError
from gazepipe.evaluation.settings import CONTROLS


@pytest.fixture
def raw() -> dict:
    return toy_config()


def keys(raw: dict) -> dict[str, str]:
    plan = Plan(config.load(raw))
    run = {"dataset": "columbia-drawn", "model": "resnet18", "fold": "0", "seed": "0"}
    other = {**run, "model": "resnet10_wide"}
    return {
        "fetch": plan.key(Job.of("fetch", dataset="columbia-drawn")),
        "prepare": plan.key(Job.of("prepare", dataset="columbia-drawn")),
        "split": plan.key(Job.of("split", dataset="columbia-drawn")),
        "base": plan.key(Job.of("train", method="base", **run)),
        "kd": plan.key(Job.of("train", method="kd", **run)),
        "kd_prune": plan.key(Job.of("train", method="kd_prune", **run)),
        "other model": plan.key(Job.of("train", method="base", **other)),
        "predict kd": plan.key(Job.of("predict", method="kd", **run)),
        "profile": plan.key(Job.of("profile", model="resnet18", method="base")),
        "tables": plan.key(Job.of("tables")),
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
        ("statistics/margin", 0.9, {"tables"}),
        ("methods/kd/control", None, {"tables"}),
        ("models/simvit/width", 0.25, set()),
        ("benchmark/models", ["resnet18", "itracker4"], {"tables"}),
    ],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(raw, path, value, expected):
    assert changed(raw, path, value) == expected


def test_the_tables_read_the_whole_selection(raw):
    plan = Plan(config.load(raw))
    files = [*tables.predictions(plan), *tables.profiles(plan)]
    # Gaze angles: 2 profiles; 2 + 2 folds, each tested by 2 models x 3 methods, the mean and ridge.
    angles = 2 + 4 * (2 * 3 + 2)
    # Near-eye: the full network's profile and the small one's, which its twin shares; 3 methods, the mean and ridge.
    points = 2 + 3 + 2
    assert len(files) == len(set(files)) == angles + points
    assert len({plan.path(file) for file in files}) == len(files)
    assert [run["method"] for run in runs.explained(plan.config)] == ["base"]
    assert tables.agreements(plan) == []


NEAR_EYE = {"dataset": "near-eye-drawn", "model": "itracker4", "fold": "0", "seed": "0"}


def near_eye_keys(raw: dict) -> dict[str, str]:
    plan = Plan(config.load(raw))
    trained = {name: plan.key(Job.of("train", method=name, **NEAR_EYE)) for name in ("base", "small", "small_scratch")}
    explained = plan.key(Job.of("explain", method="base", **NEAR_EYE))
    return {**trained, "explain": explained, "profile": plan.key(Job.of("profile", model="itracker4", method="small"))}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        # The width comes out of the explanation, and what is shrunk to it out of the width.
        ("explain/tolerance", 0.1, {"explain", "small", "small_scratch", "profile"}),
        ("methods/small/shrink/towers", 0.9, {"small", "small_scratch", "profile"}),
        ("methods/small_scratch/training", {"epochs": 3}, {"small_scratch"}),
        ("datasets/near-eye-drawn/near_eye", {"gamma": 2.0}, {"base", "explain", "small", "small_scratch", "profile"}),
        ("patch/width", 96, set()),
    ],
)
def test_a_change_reaches_the_shrunk_networks(raw, path, value, expected):
    before = near_eye_keys(raw)
    *parents, last = path.split("/")
    block = raw
    for name in parents:
        block = block.setdefault(name, {})
    block[last] = value
    after = near_eye_keys(raw)
    assert {name for name in before if before[name] != after[name]} == expected


def test_a_shrunk_network_is_profiled_by_its_own_weights(raw):
    plan = Plan(config.load(raw))
    assert runs.shaped(plan.config, "itracker4", "base") is None
    assert runs.shaped(plan.config, "itracker4", "small") == {**NEAR_EYE, "method": "small"}
    assert runs.shape_maker(plan.config, "small_scratch") == "small"
    linked = runs.linked(plan.config, method="small_scratch", **NEAR_EYE)
    assert linked == {"shape": {**NEAR_EYE, "method": "small"}}


def test_a_bundle_stands_on_its_run_and_on_the_settings_of_export(raw):
    names = {"dataset": "columbia-drawn", "model": "resnet18", "method": "kd"}
    plan = Plan(config.load(raw))
    assert runs.first(plan.config, **names) == {**names, "fold": "1", "seed": "0"}
    before, tables = plan.key(Job.of("export", **names)), plan.key(Job.of("tables"))
    raw["deploy"] = {"tolerance": 0.5}
    plan = Plan(config.load(raw))
    assert plan.key(Job.of("export", **names)) != before
    assert plan.key(Job.of("tables")) == tables
    assert plan.settings(Job.of("export", **names)).about.licence == "drawn here: none needed"


def test_seeds_are_compared_where_there_are_several(raw):
    raw["benchmark"]["seeds"] = [0, 1]
    plan = Plan(config.load(raw))
    (file,) = tables.agreements(plan)
    assert [dict(job.wildcards)["seed"] for job in plan.upstream(file.job)] == ["0", "1"]


def test_a_named_run_has_folders_of_its_own(raw):
    plan = Plan(config.load({**raw, "run": "other"}))
    assert all(plan.path(file).startswith("results/other/") for file in tables.predictions(plan))
    fetch = Job.of("fetch", dataset="columbia-drawn")
    assert plan.settings(fetch).folder == "data/other/raw/columbia-drawn"
    assert plan.outputs(fetch) == {"receipt": "data/other/raw/columbia-drawn.json"}


def test_times_are_brought_in_line_and_otherwise_left_alone(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = Plan(config.load(raw))
    run = {"dataset": "columbia-drawn", "model": "resnet18", "method": "base", "fold": "1", "seed": "0"}
    store = Path(plan.path(made("prepare", "store", dataset="columbia-drawn")))
    weights = Path(plan.path(made("train", "weights", **run)))
    predictions = Path(plan.path(made("predict", "predictions", **run)))
    beside = [store.with_suffix(".rejected.csv"), weights.with_name("history.csv"), weights.with_name("run.json")]
    for path, seconds in ((store, 300), (weights, 100), (predictions, 400), *((path, 50) for path in beside)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (seconds, seconds))
    settle_times(plan)
    assert [path.stat().st_mtime for path in (store, weights, predictions)] == [300, 300, 400]

    beside[1].unlink()  # half a result is made again, and what stands on it after that
    settle_times(plan)
    assert [path.stat().st_mtime for path in (store, weights, beside[2], predictions)] == [300, 1, 1, 400]


def test_the_page_speaks_of_no_network_that_had_nothing_to_learn_from(raw):
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "folds": {}}
    settings = Plan(config.load(raw)).settings(Job.of("tables"))
    assert {network.model for network in settings.networks} == {"resnet10_wide", "resnet18"}
    assert list(settings.methods) == ["base", "kd", "kd_prune"]


def test_networks_that_are_timed_are_timed_with_single_images(raw):
    raw["benchmark"] |= {"deploy": ["resnet18/base"]}
    raw["profiling"] = {"batches": [8]}
    assert Plan(config.load(raw)).settings(Job.of("speed", dataset="columbia-drawn")).batches == [1, 8]


@pytest.mark.parametrize(("model", "there"), [("itracker4", False), ("resnet18", True)])
def test_the_table_of_pruned_networks_is_of_those_that_predict_angles(raw, model, there):
    for name in ("itracker4", "resnet18"):
        raw["models"][name]["methods"] = ["base", "half"] if name == model else ["base"]
    outputs = Plan(config.load(raw)).outputs(Job.of("tables"))
    assert ("results/tables/compression.csv" in outputs.values()) == there


def test_the_overview_tells_what_each_stage_reads_and_writes(raw):
    text = overview(Plan(config.load(raw)))
    paragraphs = dict(each.split(": ", 1) for each in text.split("\n\n"))
    assert list(paragraphs) == list(STAGES)
    assert "  reads   teacher: train.weights\n" in paragraphs["train"]
    assert "  reads   width: explain.width\n" in paragraphs["train"]
    assert "  writes  split: results/splits/{dataset}.csv" in paragraphs["split"]


def test_a_file_of_predictions_tells_what_makes_it(raw):
    plan = Plan(config.load(raw))
    names = {"dataset": "columbia-drawn", "fold": "1", "seed": "0"}
    run = {**names, "model": "resnet18", "method": "base"}
    jobs = [Job.of("predict_control", model=name, **names) for name in CONTROLS] + [Job.of("predict", **run)]
    for job in jobs:
        assert plan.maker(plan.outputs(job)["predictions"]) == job
    with pytest.raises(UserError, match="columbia-drawn: is no result of this configuration"):
        plan.maker("results/predictions/columbia-drawn")
    with pytest.raises(UserError, match="fold1: is no result of this configuration"):
        plan.maker("results/predictions/columbia-drawn/resnet18/base/fold1")
    mean, ridge, _ = jobs
    assert "gazepipe.evaluation.ridge" in plan.modules(ridge)
    assert "gazepipe.evaluation.ridge" not in plan.modules(mean)


def test_one_job_predicts_every_test_set_of_its_task(raw):
    plan = Plan(config.load(raw))
    names = {"dataset": "mpiifacegaze-drawn", "fold": "1", "seed": "0"}
    sets = ["columbia-drawn", "mpiifacegaze-drawn"]
    for job in (
        Job.of("predict", model="resnet18", method="base", **names),
        Job.of("predict_control", model="mean", **names),
    ):
        settings = plan.settings(job)
        assert (settings.dataset, settings.fold, settings.tests) == ("mpiifacegaze-drawn", 1, sets)
        assert plan.inputs(job)["stores"] == [made("prepare", "store", dataset=name) for name in sets]
    of_points = plan.settings(Job.of("predict", method="base", **NEAR_EYE))
    assert of_points.tests == ["near-eye-drawn"]


def test_what_cannot_have_learnt_is_not_explained(raw):
    raw["models"]["itracker4"]["methods"] = ["base", "shuffled", "untrained"]
    raw["benchmark"] |= {"datasets": ["near-eye-drawn"], "models": ["itracker4"]}
    assert {run["method"] for run in runs.explained(config.load(raw))} == {"base"}


def test_epochs_of_a_method_and_of_all_that_is_in_its_weights(raw):
    raw["benchmark"] |= {"datasets": ["columbia-drawn", "mpiifacegaze-drawn"], "models": ["resnet18"]}
    raw["benchmark"] |= {"methods": ["base", "kd_prune", "half", "half_scratch", "untrained"]}
    networks = Plan(config.load(raw)).settings(Job.of("tables")).networks
    found = {each.method: (each.epochs, each.total_epochs) for each in networks}
    # base and kd: 6 and 8; re-birth: 2 generations of 2; half: 1 between its two prunings, 4 after them.
    assert found == {
        "base": ([6, 8], {"columbia-drawn": 6, "mpiifacegaze-drawn": 8}),
        "kd_prune": ([4], {"columbia-drawn": 10, "mpiifacegaze-drawn": 12}),
        "half": ([5], {"columbia-drawn": 11, "mpiifacegaze-drawn": 13}),
        "half_scratch": ([6, 8], {"columbia-drawn": 6, "mpiifacegaze-drawn": 8}),
        "untrained": ([0], {"columbia-drawn": 0, "mpiifacegaze-drawn": 0}),
    }


def test_images_without_labels_count_as_training(raw):
    raw["datasets"]["crowd"] = copy.deepcopy(raw["datasets"]["mpiifacegaze-drawn"])
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet18"], "methods": ["base", "more"]}
    raw["methods"]["more"] = {"teacher": "base", "pseudo_labels": {"share": 0.5}, "unlabelled": ["crowd"]}
    networks = Plan(config.load(raw)).settings(Job.of("tables")).networks
    totals = {each.method: (each.epochs, each.total_epochs["columbia-drawn"]) for each in networks}
    assert totals == {"base": ([6], 6), "more": ([4], 6)}


def test_a_new_network_or_kind_of_method_reruns_nothing(raw, tmp_path, repository):
    """In a copy of the package: keys before and after, each from a process of its own."""
    shutil.copytree(repository / "gazepipe", tmp_path / "gazepipe")
    shutil.copy(PATH, tmp_path)
    code = (
        "from gazepipe.config.load import load_files; from gazepipe.dag.plan import Plan;"
        "from gazepipe.dag.stage import Job; plan = Plan(load_files([]));"
        "run = dict(dataset='columbia-drawn', model='resnet18', method='kd_prune', fold='1', seed='0');"
        "print(plan.key(Job.of('train', **run)), plan.key(Job.of('tables')))"
    )

    def keys_now() -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True)

    before = keys_now()
    networks, kinds = (tmp_path / f"gazepipe/{room}/settings.py" for room in ("models", "methods"))
    networks.write_text(networks.read_text().replace("NETWORKS = {", 'NETWORKS = {"tiny": "a.b:c",'))
    field = "    kd: KD | None = None\n"
    assert field in kinds.read_text()
    kinds.write_text(kinds.read_text().replace(field, "    another: Rebirth | None = None\n" + field))
    assert keys_now() == before
    rebirth = tmp_path / "gazepipe/methods/rebirth.py"
    rebirth.write_text(rebirth.read_text() + "\nANOTHER = 1\n")
    assert keys_now() != before


def test_the_default_run_trains_one_fold_and_only_prepares_what_is_seen_without_labels(repository):
    """The shipped configuration."""
    plan = Plan(config.load(config.read(repository / "config.yaml")))
    found, waiting = set(), [Job.of("page")]
    while waiting:
        job = waiting.pop()
        if job not in found:
            found.add(job)
            waiting += plan.upstream(job)
    trained = [dict(job.wildcards) for job in found if job.stage == "train"]
    assert {run["fold"] for run in trained} == {"0"}
    assert {run["dataset"] for run in trained} == set(plan.config.benchmark.datasets)
    prepared = {dict(job.wildcards)["dataset"] for job in found if job.stage == "prepare"}
    datasets = plan.config.benchmark.datasets
    methods = plan.config.methods.values()
    others = {name for method in methods for dataset in datasets for name in method.unlabelled_for(dataset)}
    assert prepared == {*plan.config.benchmark.datasets, *others}
    for job in found:
        if job.stage == "train":
            method = plan.config.methods[dict(job.wildcards)["method"]]
            stores = {dict(file.job.wildcards)["dataset"] for file in plan.inputs(job).get("unlabelled") or []}
            assert stores == set(method.unlabelled_for(dict(job.wildcards)["dataset"]))
    assert len({plan.key(job) for job in found}) == len(found)
