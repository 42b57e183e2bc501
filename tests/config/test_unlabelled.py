"""Data sets that a method sees without their labels: what the configuration refuses of them."""

import pytest
from toy_config import toy_config

from gazepipe.config import load as config
from gazepipe.config import select
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job, made
from gazepipe.errors import UserError

METHOD = {"teacher": "resnet18/base", "pseudo_labels": {}, "unlabelled": ["crowd"]}


@pytest.fixture
def raw() -> dict:
    """`more` learns from a crowd, which no network is tested on, `further` goes on from it."""
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet10_wide"], "methods": ["base", "more"]}
    raw["benchmark"]["folds"] = {}
    raw["datasets"]["crowd"] = {
        "layout": "mpiifacegaze",
        "subjects": 40,
        "source": {"drawn": {"seed": 12}},
        "split": {"protocol": "k-fold", "folds": 2},
    }
    raw["methods"]["more"] = {**METHOD}
    raw["methods"]["further"] = {"parent": "more", "training": {"epochs": 2}}
    return raw


def refusal(raw: dict) -> str:
    with pytest.raises(UserError) as caught:
        config.load(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_crowd_is_prepared_and_neither_trained_nor_tested_on(raw):
    plan = Plan(config.load(raw))
    run = {"dataset": "columbia-drawn", "model": "resnet10_wide", "fold": "0", "seed": "0"}
    assert plan.inputs(Job.of("train", method="more", **run))["unlabelled"] == [
        made("prepare", "store", dataset="crowd")
    ]
    assert not plan.inputs(Job.of("train", method="base", **run)).get("unlabelled")
    predictions = [file.job for file in plan.inputs(Job.of("tables"))["predictions"]]
    assert {test for job in predictions for test in plan.settings(job).tests} == {"columbia-drawn"}


@pytest.mark.parametrize("selected", ["more", "further", "pupil"])
def test_what_is_tested_is_not_seen_before_by_a_network_nor_by_what_it_goes_back_to(raw, selected):
    raw["methods"]["pupil"] = {"teacher": "more", "kd": {"response": 1.0}}
    raw["benchmark"] |= {"datasets": ["columbia-drawn", "crowd"], "methods": ["base", selected]}
    message = refusal(raw)
    assert message.startswith("configuration: methods.more.unlabelled: networks are tested on crowd")
    raw["benchmark"]["methods"] = ["base"]
    config.load(raw)


def test_an_unknown_data_set_is_refused_whether_selected_or_not(raw):
    raw["methods"]["more"]["unlabelled"] = ["crowds"]
    raw["benchmark"]["methods"] = ["base"]
    message = refusal(raw)
    assert message.startswith("configuration: methods.more.unlabelled: 'crowds' does not exist")
    assert "'crowd'" in message


def test_a_data_set_is_named_once(raw):
    raw["methods"]["more"]["unlabelled"] = ["crowd", "crowd"]
    assert refusal(raw) == "configuration: methods.more.unlabelled: 'crowd' is listed twice; remove one"


def test_without_a_teacher_there_is_nobody_to_say_what_they_show(raw):
    raw["methods"]["more"] = {"unlabelled": ["crowd"]}
    message = refusal(raw)
    assert message.startswith("configuration: methods.more: ")
    assert "'pseudo_labels' and 'unlabelled' go together: name both, or neither" in message


@pytest.mark.parametrize("patch", [{"kind": "eyes", "height": 36, "width": 96}, {"kind": "face"}])
def test_images_of_another_patch_are_refused(raw, patch):
    raw["datasets"]["crowd"]["patch"] = patch
    assert refusal(raw) == (
        "configuration: methods.more.unlabelled: crowd and columbia-drawn have different patches; give both the same"
    )


def test_images_of_another_task_are_refused(raw):
    raw["methods"]["more"]["unlabelled"] = ["near-eye-drawn"]
    assert "near-eye-drawn and columbia-drawn have different patches" in refusal(raw)


def test_a_patch_that_cannot_be_cut_is_refused(raw):
    raw["datasets"]["crowd"] = {
        "layout": "mpiigaze-npz",
        "subjects": 2,
        "source": {"path": "crowd"},
        "split": {"protocol": "leave-one-out"},
    }
    message = refusal(raw)
    assert "crowd (layout mpiigaze-npz)" in message
    assert "'eyes' cannot be cut" in message


def test_networks_and_all_that_they_go_back_to(raw):
    """By parent, teacher and shape; each pair once, and nothing besides."""
    raw["models"] |= {"resnet18": {"arch": "resnet18"}, "resnet10_wide": {"arch": "resnet10_wide"}}
    raw["methods"]["shaped"] = {"shape": "half"}
    raw["benchmark"]["methods"] = ["further", "shaped"]
    own = {("resnet10_wide", name) for name in ("further", "more", "shaped", "half", "base")}
    found = select.with_ancestors(config.load(raw))
    assert sorted(found) == sorted(own | {("resnet18", "base")})
    raw["benchmark"]["methods"] = ["base"]
    assert select.with_ancestors(config.load(raw)) == [("resnet10_wide", "base")]


def test_each_data_set_has_its_own(raw):
    raw["datasets"]["other"] = {**raw["datasets"]["crowd"], "source": {"drawn": {"seed": 13}}}
    raw["benchmark"]["datasets"] = ["columbia-drawn", "mpiifacegaze-drawn"]
    raw["methods"]["more"]["unlabelled"] = {"columbia-drawn": ["crowd", "other"], "mpiifacegaze-drawn": ["other"]}
    plan = Plan(config.load(raw))

    def seen(dataset: str) -> list[str]:
        run = {"dataset": dataset, "model": "resnet10_wide", "method": "more", "fold": "0", "seed": "0"}
        files = plan.inputs(Job.of("train", **run)).get("unlabelled", [])
        return [dict(file.job.wildcards)["dataset"] for file in files]

    assert seen("columbia-drawn") == ["crowd", "other"]
    assert seen("mpiifacegaze-drawn") == ["other"]
    assert plan.config.methods["more"].images("columbia-drawn") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columbia": ["crowd"]}, "methods.more.unlabelled: 'columbia' does not exist"),
        ({"columbia-drawn": ["crowds"]}, "methods.more.unlabelled.columbia-drawn: 'crowds' does not exist"),
        ({"columbia-drawn": ["crowd", "crowd"]}, "methods.more.unlabelled.columbia-drawn: 'crowd' is listed twice"),
        (
            {"mpiifacegaze-drawn": ["crowd"]},
            "methods.more.unlabelled: names nothing for columbia-drawn, which",
        ),
        ({"columbia-drawn": ["columbia-drawn"]}, "methods.more.unlabelled: networks are tested on columbia-drawn"),
    ],
)
def test_what_is_refused_of_each_data_set(raw, given, message):
    raw["methods"]["more"]["unlabelled"] = given
    assert refusal(raw).startswith(f"configuration: {message}")
