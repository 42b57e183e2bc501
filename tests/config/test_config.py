import copy

import pytest
from toy_config import toy_config

from gazepipe.config import load as config
from gazepipe.config import select
from gazepipe.errors import UserError


@pytest.fixture
def raw() -> dict:
    return toy_config()


@pytest.fixture
def shipped(repository) -> dict:
    """The default run."""
    return config.read(repository / "config.yaml")


def refusal(raw: dict, path: str, value: object) -> str:
    """The message for the configuration with one value changed (or, with `...` in `value`, removed)."""
    raw = copy.deepcopy(raw)
    *parents, last = path.split("/")
    block = raw
    for name in parents:
        block = block.setdefault(name, {})
    if value is ...:
        del block[last]
    else:
        block[last] = value
    with pytest.raises(UserError) as caught:
        config.load(raw)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("trainnig", {}, ["trainnig", "'training'"]),
        ("training/epoch", 3, ["training.epoch", "'epochs'"]),
        ("datasets/columbia-drawn/source/drawn/sede", 1, ["datasets.columbia-drawn.source.drawn.sede", "'seed'"]),
        ("methods/kd/teachr", "base", ["methods.kd.teachr", "'teacher'"]),
        ("methods/kd/kd/respons", 1, ["methods.kd.kd.respons", "'response'"]),
        ("models/resnet18/training", {"epoch": 1}, ["models.resnet18.training.epoch", "'epochs'"]),
        ("datasets/columbia-drawn/training", {"epoch": 1}, ["datasets.columbia-drawn.training.epoch", "'epochs'"]),
        ("training/epochs", "many", ["training.epochs", '"many"', "integer"]),
        ("training/epochs", 0, ["training.epochs", "0"]),
        ("training/learning_rate", float("nan"), ["training.learning_rate", "NaN"]),
        ("training/optimizer", "adamww", ["training.optimizer", '"adamww"', "'adamw'"]),
        ("patch/kind", "eyez", ["patch.kind", '"eyez"', "'eye'"]),
        ("patch/kind", "eye", ["patch.kind", "'eye'", "columbia-drawn", "'eyes', 'face'"]),
        ("datasets/columbia-drawn/split/by", "day", ["datasets.columbia-drawn.split", "'by: day' goes with"]),
        ("datasets/columbia-drawn/layout", "ethxgace", ["datasets.columbia-drawn.layout", "'ethxgaze'"]),
        ("datasets/columbia-drawn/layout", "manifest", ["datasets.columbia-drawn", "'manifest' goes with layout"]),
        (
            "datasets/columbia-drawn/layout",
            "mpiigaze-npz",
            ["datasets.columbia-drawn", "nothing draws layout", "'path'"],
        ),
        ("methods/kd/teacher", "bse", ["methods.kd.teacher", "'bse'", "'base'"]),
        ("methods/kd/teacher", "resnet81/base", ["methods.kd.teacher", "'resnet81'", "'resnet18'"]),
        ("methods/kd_prune/parent", "kdd", ["methods.kd_prune.parent", "'kdd'", "'kd'"]),
        ("methods/kd_prune/control", "kd_train", ["methods.kd_prune.control", "'kd_train'", "'kd_train_on'"]),
        ("methods/kd_prune/control", "kd_prune", ["methods.kd_prune.control", "(kd_prune -> kd_prune)", "as long"]),
        ("methods/base/control", "kd", ["methods.base.control", "come back to base (base -> kd -> base)"]),
        ("methods/shuffled/parent", "base", ["methods.shuffled", "'placebo' starts from random weights", "'parent'"]),
        ("methods/shuffled/rebirth", {}, ["methods.shuffled", "'placebo' stands alone"]),
        ("methods/none", {}, ["methods.none", "stands for a control", "choose another"]),
        ("models/ridge", {"arch": "resnet18"}, ["models.ridge", "stands for a control"]),
        ("methods/base", {"parent": "kd_prune"}, ["methods.base", "base -> kd_prune -> kd -> base", "cycle"]),
        ("methods/kd/kd", ..., ["methods.kd", "'kd' or 'pseudo_labels' and 'teacher' go together"]),
        ("methods/kd_prune/parent", ..., ["methods.kd_prune", "'rebirth'", "'parent'"]),
        ("benchmark/models", ["resnet8"], ["benchmark.models", "'resnet8'", "'resnet18'"]),
        ("benchmark/datasets", [], ["benchmark.datasets"]),
        ("benchmark/seeds", [0, 0], ["benchmark.seeds", "twice"]),
        ("benchmark/folds", {"columbia-drawn": [5]}, ["benchmark.folds.columbia-drawn", "fold 5", "nearest is 4"]),
        ("benchmark/folds", {"columbia": [0]}, ["benchmark.folds", "'columbia'", "'columbia-drawn'"]),
        ("benchmark/skip", ["simvit/kd_prun"], ["benchmark.skip", "'simvit/kd_prun'", "'simvit/kd_prune'"]),
        ("models/resnet18/arch", "resnet81", ["models.resnet18.arch", "'resnet81'", "'resnet18'"]),
        ("datasets/columbia-drawn/source", {}, ["datasets.columbia-drawn.source", "exactly one"]),
        ("datasets/columbia-drawn/split/folds", 3, ["datasets.columbia-drawn.split", "k-fold"]),
        ("augmentation/crop", 0.9, ["augmentation", "must be at most 1"]),
        ("run", "../x", ["run", '"../x"']),
        ("run", "tables", ["run", "'tables'"]),
        ("datasets/bad name", {}, ["bad name"]),
    ],
)
def test_refusals_name_key_value_and_nearest(raw, path, value, expected):
    message = refusal(raw, path, value)
    for part in expected:
        assert part in message


def test_overrides_merge_model_then_method(raw):
    raw["models"]["resnet18"]["training"] = {"learning_rate": 0.5, "epochs": 7}
    raw["models"]["plain"] = {"arch": "resnet18"}
    raw["datasets"]["mpiifacegaze-drawn"]["training"] = {"epochs": 77}
    raw["methods"]["kd"]["training"] = {"epochs": 9}
    loaded = config.load(raw)
    merged = select.training_of(loaded, "columbia-drawn", "resnet18", "kd")
    assert (merged.learning_rate, merged.epochs, merged.batch_size) == (0.5, 9, loaded.training.batch_size)
    assert select.training_of(loaded, "mpiifacegaze-drawn", "plain", "base").epochs == 77


def test_folds_default_to_all_of_the_protocol(raw):
    del raw["benchmark"]["folds"]["mpiifacegaze-drawn"]
    loaded = config.load(raw)
    assert select.folds(loaded, "mpiifacegaze-drawn") == list(range(raw["datasets"]["mpiifacegaze-drawn"]["subjects"]))
    assert select.folds(loaded, "columbia-drawn") == raw["benchmark"]["folds"]["columbia-drawn"]


def test_folds_without_a_subject_do_not_exist(raw):
    raw["datasets"]["columbia-drawn"]["subjects"] = 5
    raw["benchmark"]["folds"] = {}
    assert select.folds(config.load(raw), "columbia-drawn") == [1, 2, 4]
    assert "fold 0" in refusal(raw, "benchmark/folds", {"columbia-drawn": [0]})


def test_skipped_pairs_are_left_out(raw):
    raw["benchmark"]["datasets"] = ["columbia-drawn"]
    raw["benchmark"] |= {"models": ["resnet18", "simvit"], "methods": ["base", "kd"], "skip": ["simvit/kd"]}
    pairs = [("resnet18", "base"), ("resnet18", "kd"), ("simvit", "base")]
    assert select.networks(config.load(raw)) == pairs


def test_a_teacher_may_be_another_model(raw):
    raw["methods"]["kd"]["teacher"] = "resnet18/base"
    loaded = config.load(raw)
    assert select.teacher_of(loaded, "resnet10_wide", "kd") == ("resnet18", "base")
    assert select.teacher_of(loaded, "resnet10_wide", "kd_prune") == ("resnet10_wide", "base")
    assert select.teacher_of(loaded, "resnet10_wide", "base") is None


def test_every_shipped_configuration_is_valid(repository, shipped):
    from snakemake.utils import update_config

    for path in sorted((repository / "config").glob("*.yaml")):
        merged = copy.deepcopy(shipped)
        update_config(merged, config.read(path))
        assert config.load(merged).run == path.stem


def test_the_control_of_re_birth_differs_by_the_share_alone(repository, shipped):
    for path in [None, *sorted((repository / "config").glob("*.yaml"))]:
        methods = config.load(shipped if path is None else config.merged(shipped, config.read(path))).methods
        rebirth, control = methods["kd_prune"], methods[methods["kd_prune"].control]
        changed = control.rebirth.model_copy(update={"share": rebirth.rebirth.share})
        assert control.rebirth.share == 0
        assert control.model_copy(update={"rebirth": changed, "control": rebirth.control}) == rebirth, path


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_read_refuses_what_is_no_mapping(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        config.read(path)
    with pytest.raises(UserError, match="cannot be read"):
        config.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": {"half": {"structural": {"ratio": 1.5}}}}, "methods.half.structural.ratio: 1.5 is not valid"),
        ({"methods": {"half": {"structural": {"scope": "globl"}}}}, "did you mean 'global'?"),
        ({"methods": {"new": {"structural": {}}}}, "'structural' starts from trained weights: name a 'parent'"),
        (
            {"methods": {"half": {"rebirth": {"share": 0.1}}}},
            "'rebirth', 'shrink' and 'structural' each change the network: use one in a method",
        ),
        ({"benchmark": {"deploy": ["resnet18/half"]}}, "benchmark.deploy: 'resnet18/half' does not exist"),
        ({"benchmark": {"deploy": ["resnet18/kd", "resnet18/kd"]}}, "benchmark.deploy: 'resnet18/kd' is listed twice"),
    ],
)
def test_mistakes_about_smaller_networks(raw, change, words):
    raw = config.merged(raw, change)
    with pytest.raises(UserError) as caught:
        config.load(raw)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
