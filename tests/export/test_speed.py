"""The speed table and the Pareto figure of deployed networks: columns, ratios, frontier, names that cover nothing."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepipe.common.plotting import save
from gazepipe.errors import UserError
from gazepipe.export import speed as module
from gazepipe.export.settings import SpeedSettings
from gazepipe.export.speed import COLUMNS, speed
from gazepipe.export.stage import export
from gazepipe.report import pareto as figure
from tests.export.conftest import SPEC

TIMING = SpeedSettings(networks=["toy"], models={"toy": SPEC}, batches=[1, 2], seconds=0.01, threads=1)


@pytest.fixture(scope="module")
def timed(settings, make_run, tmp_path_factory) -> dict[str, list[Path]]:
    """The description of a bundle, and the weights that it was made from."""
    folder = tmp_path_factory.mktemp("speed")
    files = make_run(folder, 4)
    export(settings.model_copy(update={"calibration": 4}), **files, folder=folder / "bundle")
    return {"bundles": [folder / "bundle" / "preprocess.json"], "weights": [files["weights"]]}


@pytest.fixture
def results(tmp_path) -> dict[str, Path]:
    return {"table": tmp_path / "speed.csv", "machine": tmp_path / "speed.json"}


@pytest.fixture
def small_reference(monkeypatch) -> None:
    monkeypatch.setattr(module, "REFERENCE_SPEC", {"arch": "resnet18", "width": 0.125, "input": [1, 32, 32]})


def test_rows_of_the_speed_table(timed, results, small_reference):
    speed(TIMING, **timed, **results)
    with open(results["table"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    variants = [("eager", "fp32"), *((r, p) for r in ("openvino", "onnxruntime") for p in ("fp32", "int8"))]
    expected = [("reference", "eager", "fp32"), *(("toy", *variant) for variant in variants)]
    names = [(row["network"], row["runtime"], row["precision"]) for row in rows]
    assert names == [name for name in expected for _ in (1, 2)]
    content = json.loads(timed["bundles"][0].read_text())
    errors = {(row["runtime"], row["precision"]): row for row in content["error"]}
    pace = {row["batch"]: float(row["images_per_second"]) for row in rows[:2]}
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(float(row["images_per_second"]) / pace[row["batch"]], rel=1e-4)
        assert 0 < float(row["latency_ms"]) <= float(row["latency_ms_p95"])
        if row["network"] == "toy":
            known = errors[row["runtime"], row["precision"]]
            assert float(row["error"]) == pytest.approx(known["error"], rel=1e-5)
            assert int(row["bytes"]) == known["bytes"]
            assert int(row["macs"]) == content["cost"]["macs"]
    assert [float(row["ratio"]) for row in rows[:2]] == [1, 1]
    assert rows[0]["error"] == ""
    assert json.loads(results["machine"].read_text())["threads"] == 1


@pytest.mark.parametrize(
    ("networks", "bundles", "weights"), [(["toy"], 1, 2), (["toy"], 0, 1), (["toy", "other"], 1, 1)]
)
def test_bundles_and_weights_belong_together(timed, results, networks, bundles, weights):
    files = {"bundles": timed["bundles"] * bundles, "weights": timed["weights"] * weights}
    message = f"speed: {bundles} bundles and {weights} weights of {len(networks)} networks"
    with pytest.raises(UserError, match=message):
        speed(TIMING.model_copy(update={"networks": networks}), **files, **results)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda folder: (folder / "model.int8.xml").unlink(), r"model\.int8\.xml: is missing"),
        (lambda folder: (folder / "preprocess.json").unlink(), r"preprocess\.json: cannot be read"),
        (lambda folder: (folder / "preprocess.json").write_text('{"error": 3}'), "holds no errors by runtime"),
        (lambda folder: (folder / "preprocess.json").write_text('{"error": []}'), "has no error of eager, fp32"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(timed, results, tmp_path, small_reference, change, match):
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in timed["bundles"][0].parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder)
    with pytest.raises(UserError, match=match):
        speed(TIMING, [folder / "preprocess.json"], timed["weights"], **results)


numbers = st.lists(st.tuples(*[st.integers(1, 6)] * 2), min_size=1, max_size=12)


@given(numbers)
def test_the_frontier_holds_what_no_other_beats(points):
    cost, error = np.array(points, float).T
    kept = figure.frontier(cost, error)
    better = lambda a, b: cost[a] <= cost[b] and error[a] <= error[b] and (cost[a], error[a]) != (cost[b], error[b])  # noqa: E731
    unbeaten = {i for i in range(len(points)) if not any(better(j, i) for j in range(len(points)))}
    assert {points[i] for i in kept} == {points[i] for i in unbeaten}
    assert (np.diff(cost[kept]) > 0).all()
    assert (np.diff(error[kept]) < 0).all()


def made_up() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for network, macs, error in [
        ("large", 1.7, 3.2),
        ("half", 0.44, 3.25),
        ("pruned_2x", 0.87, 3.22),
        ("mobile", 0.03, 3.6),
    ]:
        for number, (runtime, precision) in enumerate(figure.VARIANTS):
            latency, size = (1 + 16 * macs) / (1 + number), 4e6 * macs / (1 + 3 * (precision == "int8"))
            rows.append((network, runtime, precision, error * rng.uniform(1, 1.01), "deg", 1, 2, latency, size))
    columns = ["network", "runtime", "precision", "error", "units", "batch", "threads", "latency_ms", "bytes"]
    return pd.DataFrame(rows, columns=columns)


def test_the_figure_is_repeatable_and_leaves_no_parts(tmp_path):
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        save(figure.pareto(made_up()), tmp_path / name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]


def test_every_point_is_named_and_no_name_covers_another(monkeypatch):
    boxes, free_place = [], figure._free_place

    def noted(*arguments):
        box, ring = free_place(*arguments)
        boxes[-1].append((box, list(arguments[2])))
        return box, ring

    name, named = figure._name, []

    def panel(axes, points, column):
        boxes.append([])
        places = axes.transData.transform(points[[column, "error"]].to_numpy(float))
        groups = figure._groups(points.network.tolist(), places)
        named.extend(sorted(point for _, group in groups for point in group))
        name(axes, points, column)

    monkeypatch.setattr(figure, "_free_place", noted)
    monkeypatch.setattr(figure, "_name", panel)
    figure.pareto(made_up())
    assert named == 2 * list(range(20))
    assert len(boxes) == 2
    for box, taken in [*boxes[0], *boxes[1]]:
        assert all(figure._overlap(box, other) == 0 for other in taken)


def test_overlap_and_crossing_of_boxes():
    assert figure._overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert figure._overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1.25)
    assert figure._crosses(np.array([0.0, 0.0]), np.array([10.0, 10.0]), (4, 4, 6, 6))
    assert not figure._crosses(np.array([0.0, 0.0]), np.array([10.0, 0.0]), (4, 4, 6, 6))


def test_networks_without_an_error_make_a_figure_without_points(tmp_path):
    """As where every network has a marked cell in place of its error."""
    save(figure.pareto(made_up().assign(error=np.nan)), tmp_path / "none.png")
    save(figure.pareto(made_up()), tmp_path / "some.png")
    none, some = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("none", "some"))
    assert none.shape == some.shape
    assert (none < 250).sum() < (some < 250).sum()
