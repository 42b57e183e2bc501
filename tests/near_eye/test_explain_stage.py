"""The stage as a whole, on a small network that was never trained: its files, what it decides from, its errors."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from toy_near_eye import SCENE, write_near_eye, write_near_eye_split

from gazepipe.dag.stages import EXPLANATION, STAGES
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.methods.shrink.first_layer import drop_dimensions, low_rank
from gazepipe.models.registry import build
from gazepipe.models.weights import load_weights, save_weights
from gazepipe.near_eye.explain import heatmaps, step_embedding, step_heatmaps, step_width
from gazepipe.near_eye.explain.agreement import explain_seeds
from gazepipe.near_eye.explain.embedding import first_weight, sweep, thinned
from gazepipe.near_eye.explain.importance import SCORES
from gazepipe.near_eye.explain.stage import explain
from gazepipe.near_eye.explain.width import Readout, narrowed
from gazepipe.near_eye.settings import AgreementSettings, ExplainSettings
from gazepipe.training.samples import samples_of

SIZE = (144, 160)
SPEC = {"arch": "itracker4", "width": 0.5, "input": [4, *SIZE], "options": {"dimensions": 12, "embedding": "tanh"}}
SETTINGS = ExplainSettings(
    **{"fold": 0, "seed": 0, "device": "cpu", "threads": 1, "samples": 2, "trees": 4},
    **{"widths": [1, 4], "tolerance": 0.02, "recover_epochs": 2},
)


def _write_weights(path: Path, seed: int, spec: dict = SPEC) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(spec)
        torch.nn.init.normal_(model.head[2].weight, std=0.5)
    patch = {"kind": "near-eye", "height": SIZE[0], "width": SIZE[1]}
    extra = {"mean": 0.5, "std": 0.25, "patch": patch, "dataset": "toy", "target_scale": [float(SCENE[0])] * 2}
    save_weights(path, model, spec, extra)
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    store = write_near_eye(folder / "store.h5", *SIZE, per_subject=12)
    split = write_near_eye_split(folder / "split.csv")
    return {"weights": _write_weights(folder / "model.safetensors", 0), "store": store, "split": split}


@pytest.fixture(scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatmaps, "STEPS", 2)
        patch.setattr(heatmaps, "SANITY_STEPS", 1)
        yield


@pytest.fixture
def no_figures(monkeypatch):
    for step, drawing in ((step_embedding, "figures"), (step_width, "figures"), (step_heatmaps, "map_figures")):
        monkeypatch.setattr(step, drawing, Mock())


@pytest.fixture(scope="module")
def out(inputs, quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "seed0"
    explain(SETTINGS, **inputs, folder=folder)
    return folder


def test_every_file_is_there_and_figures_are_pictures(out):
    assert sorted(path.name for path in out.iterdir()) == sorted(EXPLANATION.values())
    for path in out.glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size > 10_000


def test_equal_inputs_give_equal_bytes(out, inputs, tmp_path, no_figures):
    explain(SETTINGS, **inputs, folder=tmp_path / "again")
    for name in EXPLANATION.values():
        if not name.endswith(".png") and name != "explain.json":  # which holds times
            assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_the_embedding_is_that_of_the_test_subjects(out, inputs):
    found = np.load(out / "embedding.npz")
    opened, (model, _) = open_store(inputs["store"]), load_weights(inputs["weights"])
    rows = np.flatnonzero(np.char.startswith(opened.subject, "test"))
    assert list(found["subject"]) == list(opened.subject[rows])
    assert list(found["frame"]) == list(opened.frame[rows])
    assert found["target"] == pytest.approx(opened.target[rows])
    x = (torch.from_numpy(opened.image[rows[:3]]).float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        assert found["z"][:3] == pytest.approx(model.embed(x).numpy(), abs=1e-5)
        assert found["prediction"][:3] == pytest.approx(model(x).numpy() * SCENE[0], abs=0.05)


def test_importances_are_shares_with_ranks(out):
    table = pd.read_csv(out / "importance.csv")
    assert list(table.dimension) == list(range(12))
    for name in SCORES:
        assert table[name].sum() == pytest.approx(1, abs=1e-4)
        assert table[name][table[f"rank_{name}"].argmin()] == table[name].max()
    assert len(pd.read_csv(out / "stability.csv")) == 3 * len(SCORES)


def test_heat_maps_are_of_different_subjects_and_their_shares_add_up(out):
    table = pd.read_csv(out / "heatmaps.csv")
    assert table.groupby(["sample", "method"])["share"].sum().to_numpy() == pytest.approx(1, abs=1e-4)
    assert table.subject.nunique() == 2
    assert len(table) == 2 * 3 * 4
    assert table.center_x.between(0, SIZE[1]).all()


def test_the_width_is_decided_without_the_test_subjects(out, inputs, tmp_path, no_figures):
    """Other test images, other importances on show, and the very same decision."""
    store = inputs["store"]
    changed = tmp_path / "changed.h5"
    changed.write_bytes(store.read_bytes())
    rows = np.flatnonzero(np.char.startswith(open_store(store).subject, "test"))
    image = open_store(changed).image
    with open(changed, "r+b") as file:
        file.seek(image.offset + int(rows[0]) * image[0].size)
        file.write(bytes(len(rows) * image[0].size))
    explain(SETTINGS, **{**inputs, "store": changed}, folder=tmp_path / "out")
    for name in ("width.json", "width.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()
    assert (tmp_path / "out" / "importance.csv").read_bytes() != (out / "importance.csv").read_bytes()


def test_width_json_holds_what_shrinking_reads(out):
    found = json.loads((out / "width.json").read_text())
    assert {found["low_rank"], found["dropped"]} <= {1, 4, 12}
    assert sorted(found["order"]) == list(range(12))
    assert found["keep"] == sorted(found["order"][: found["dropped"]])
    assert len(found["curve"]) == 2 * 3
    assert found["importance"] in SCORES
    summary = json.loads((out / "explain.json").read_text())
    assert set(summary["dimension"]) == {
        "active_subspace_99",
        "participation_ratio",
        "two_nn",
        "pca_99",
        "weights_99",
    }
    assert summary["seconds"]["total"] > 0
    assert summary["width"]["low_rank"] == found["low_rank"]


def test_the_fast_sweep_narrows_exactly_as_the_networks_that_are_built(inputs):
    model = load_weights(inputs["weights"])[0].eval().requires_grad_(False)
    x = torch.from_numpy(np.array(open_store(inputs["store"]).image[:30])).float() / 255
    parts = model.tower_features(x)
    features, whole = torch.cat(parts, dim=1), Readout(model)
    torch.testing.assert_close(whole.embed(features), model.embed(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole(features), model(x), atol=1e-5, rtol=1e-5)
    order = np.array([5, 1, 10, *(set(range(12)) - {1, 5, 10})])
    built, _ = low_rank(model, SPEC, parts, 3)
    fast = narrowed(model, SPEC, "low_rank", 3, order, features)
    torch.testing.assert_close(fast(features), built(x), atol=1e-5, rtol=1e-4)
    built, _ = drop_dimensions(model, SPEC, [1, 5, 10], model.embed(x).mean(dim=0))
    fast = narrowed(model, SPEC, "dropped", 3, order, features)
    torch.testing.assert_close(fast(features), built(x), atol=1e-5, rtol=1e-4)
    factored = build({**SPEC, "options": {"dimensions": 12, "rank": 3}}).requires_grad_(False)
    torch.testing.assert_close(
        Readout(factored).embed(features), features @ torch.from_numpy(first_weight(factored)).T + factored.first.bias
    )


def test_sweep_of_a_linear_head_in_closed_form():
    z = torch.stack([torch.linspace(0, 1, 101), torch.linspace(-5, 5, 101)], dim=1)
    weight = torch.tensor([[3.0, 0.0], [4.0, 2.0]])
    paths, lengths, ranges = sweep(lambda values: values @ weight.T, z)
    assert ranges == pytest.approx(np.array([[0.05, 0.95], [-4.5, 4.5]]), abs=1e-5)
    assert lengths == pytest.approx([5 * 0.9, 2 * 9], rel=1e-5)
    assert paths[0, 0] == pytest.approx([0.15, 0.2], abs=1e-5)
    assert paths[1, -1] == pytest.approx([1.5, 2 + 9], abs=1e-5)


def test_thinning_spreads_over_the_store(inputs):
    samples = samples_of(open_store(inputs["store"]), None)
    few = thinned(samples, 9)
    assert len(few) == 9
    assert set(few.subject) == set(samples.subject)
    assert few.target == pytest.approx(open_store(inputs["store"]).target[few.rows])
    assert thinned(samples, 1000) is samples


def test_runs_are_compared_by_spectra_and_dimensions(out, tmp_path):
    other = tmp_path / "seed1"
    other.mkdir()
    (other / "dimension.json").write_bytes((out / "dimension.json").read_bytes())
    table = pd.read_csv(out / "importance.csv")
    # The same importances on other dimensions: what another initialisation of the same solution looks like.
    table[list(SCORES)] = table[list(SCORES)].to_numpy()[::-1]
    table.to_csv(other / "importance.csv", index=False)
    explanations = [run / "explain.json" for run in (out, other)]
    explain_seeds(AgreementSettings(seeds=[0, 1]), explanations, tmp_path / "runs")
    rows = pd.read_csv(tmp_path / "runs" / "runs.csv")
    assert list(rows.importance) == list(SCORES)
    assert (set(rows.a), set(rows.b)) == ({str(out)}, {str(other)})
    assert rows.spectrum.to_numpy() == pytest.approx(1)
    assert (rows.spearman < 0.9).all()
    assert len(pd.read_csv(tmp_path / "runs" / "runs_dimension.csv")) == 2
    declared = STAGES["explain_seeds"].outputs.values()
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {Path(pattern).name for pattern in declared}


def test_one_line_errors_for_what_a_user_can_cause(inputs, tmp_path):
    smaller = write_near_eye(tmp_path / "small.h5", 140, 160, per_subject=2)
    with pytest.raises(UserError, match=r"small\.h5: holds images of 4x140x160"):
        explain(SETTINGS, **{**inputs, "store": smaller}, folder=tmp_path / "out")
    other = tmp_path / "resnet.safetensors"
    spec = {"arch": "resnet18", "width": 0.25, "input": [1, 36, 60], "options": {}}
    save_weights(other, build(spec), spec, {})
    with pytest.raises(UserError, match=r"resnet\.safetensors: holds a \w+; explain reads near-eye networks"):
        explain(SETTINGS, **{**inputs, "weights": other}, folder=tmp_path / "out")
    with pytest.raises(UserError, match="run the training"):
        explain(SETTINGS, **{**inputs, "weights": tmp_path / "none"}, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
