"""The near-eye branch of the real workflow at its smallest: trained, explained, shrunk by what the explanation says."""

import json

import pandas as pd
import pytest
from real_workflow import finished_run, would_run
from safetensors import safe_open

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

TINY = """
run: ""
benchmark:
  datasets: [near-eye-drawn]
  models: [itracker4]
  seeds: [0, 1]
robustness: {networks: [itracker4/base, itracker4/small]}
datasets:
  near-eye-drawn:
    subjects: 4
    source: {drawn: {images: 6, scale: 0.25}}
    patch: {height: 144, width: 180}
    training: {epochs: 1, batch_size: 8}
explain: {samples: 1, trees: 5, widths: [2, 8, 128]}
methods:
  small: {training: {epochs: 1}}
profiling: {batches: [1], seconds: 0.05}
statistics: {margin: 0.5}
"""


@pytest.fixture(scope="module")
def finished(repository, tmp_path_factory):
    return finished_run(repository, tmp_path_factory.mktemp("near-eye"), TINY)


def spec(folder, method, seed=0):
    weights = folder / f"results/runs/near-eye-drawn/itracker4/{method}/fold0/seed{seed}/model.safetensors"
    with safe_open(weights, framework="np") as file:
        return json.loads(file.metadata()["gazepipe"])["model"]


def test_the_small_network_is_the_one_that_the_explanation_recommends(finished):
    explained = finished / "results/explain/near-eye-drawn/itracker4/base/fold0"
    for seed in (0, 1):
        recommended = json.loads((explained / f"seed{seed}/width.json").read_text())
        options = spec(finished, "small", seed)["options"]
        assert options["rank"] == recommended["low_rank"]
        channels = spec(finished, "small", seed)["channels"]
        assert all(channels[f"towers.{tower}.conv1"][0] < 32 for tower in range(4))
        assert spec(finished, "small_scratch", seed) == spec(finished, "small", seed)
    assert "rank" not in spec(finished, "base")["options"]


def test_tables_tell_cost_and_error_of_each_network(finished):
    table = pd.read_csv(finished / "results/tables/near_eye.csv", keep_default_na=False, na_values=[""])
    assert list(table.model[:2]) == ["mean", "ridge"]
    table = table.set_index("method")
    assert list(table.index) == ["none", "none", "base", "small", "small_scratch"]
    assert table.error_px.between(1, 2000).all()
    assert table.params["base"] > 2 * table.params["small"]
    assert table.params["small"] == table.params["small_scratch"]
    assert table.macs["base"] > 1.5 * table.macs["small"]
    # 4 towers of 8 channels at 2 x 1 places, and one bias for all.
    assert table.first_fc_params["base"] == 4 * 16 * 128 + 128
    page = (finished / "results/tables.md").read_text()
    assert "| itracker4 + small_scratch |" in page


def test_figures_and_tables_of_the_explanation_are_there(finished):
    folder = finished / "results/explain/near-eye-drawn/itracker4/base/fold0"
    for name in ("heatmaps", "sanity", "importance", "sweep", "dimension", "width", "stability"):
        assert (folder / f"seed1/{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    importance = pd.read_csv(folder / "seed0/importance.csv")
    assert len(importance) == 128
    assert (folder / "seeds/runs.png").exists()


def test_robustness_is_told_in_pixels_for_the_networks_that_were_asked_for(finished):
    table = pd.read_csv(finished / "results/tables/robustness.csv")
    assert set(zip(table.method, table.unit, strict=True)) == {("base", "px"), ("small", "px")}
    assert table["mean"].between(0, 2000).all()


def test_nothing_runs_twice(finished):
    assert would_run(finished) == {}
