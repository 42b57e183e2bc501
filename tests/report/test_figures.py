"""The figures of the tables: what they draw is what the tables hold, and what cannot be drawn is said."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from safetensors.numpy import save_file
from toy_config import toy_config
from toy_predictions import put_test
from toy_results import LAYERS, Run, row, toy_filters, write_profile

from gazepipe.dag.stage import Job, made
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.inference import mean_interval
from gazepipe.evaluation.results import Results
from gazepipe.report import angles, efficiency
from gazepipe.report.figures import compared, cost, filters, gaze, learning, matrix, panels
from gazepipe.report.settings import chosen

OWN, OTHER = "columbia-drawn", "mpiifacegaze-drawn"
GAIN = {"base": 0.0, "kd": -1.0, "kd_prune": 0.0}
SETS = {"datasets": [OWN, OTHER], "models": ["resnet18"], "methods": list(GAIN)}


def make(folder, seeds=(0, 1, 2), subjects=5, **benchmark) -> Run:
    """Results whose errors are a subject's, a run's and a method's: `kd` is much better, `kd_prune` much alike."""
    raw = toy_config()
    raw["benchmark"] |= {**SETS, "folds": {OWN: [0], OTHER: [0]}, "seeds": list(seeds), **benchmark}
    run = Run(raw, folder)
    for file, _, path in run.inputs("profiles"):
        write_profile(path)
        if file.job.names[-1] != "base":
            path.write_text(path.read_text().replace("1000000", "500000"))
    run.fill()
    for _, names, path in run.inputs("predictions"):
        write_predictions(run, names, path, subjects)
    return run


def write_predictions(run: Run, names: dict, path, subjects: int) -> None:
    store = open_store(run.folder / "data" / f"{names['test']}.h5")
    draws = np.random.default_rng(sum(map(ord, "".join(names.values()))))
    rows = []
    for number in range(subjects):
        samples = np.arange(4) + 6 * number
        level = 6 + number + GAIN.get(names.get("method"), 6.0) + draws.normal(0, 0.06)
        true = store.target[samples]
        predicted = true + np.radians(level * np.linspace(0.8, 1.2, 4))[:, None] * [1, 0]
        rows.append(
            pd.DataFrame(
                {
                    "sample": samples, "subject": f"s{number}", "frame": samples,
                    "pitch": true[:, 0], "yaw": true[:, 1], "pitch_pred": predicted[:, 0], "yaw_pred": predicted[:, 1],
                }
            )
        )  # fmt: skip
    put_test(path, names["test"], pd.concat(rows))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return make(tmp_path_factory.mktemp("figures") / "results")


@pytest.fixture
def results(run) -> Results:
    return results_of(run)


def results_of(run: Run) -> Results:
    return Results(run.plan.settings(Job.of("tables")).of_task("angles"), run.folder)


def marked(axes, gid: str) -> list:
    return [line for line in axes.lines if (line.get_gid() or "").startswith(gid)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for part in (figure, *figure.axes) for text in part.texts]


def test_every_declared_figure_is_written_the_same_twice(run):
    settings = run.plan.settings(Job.of("tables"))
    names = [name for table in chosen(settings.topics) for name in settings.figures(table)]
    assert {"forest", "cross-dataset", "filters", "pareto"} < {*names}
    assert {f"paired-{OTHER}", f"learning-{OWN}", f"gaze-{OWN}"} < {*names}
    seen = []
    for _ in range(2):
        run.write()
        seen.append({path.name: path.read_bytes() for path in (run.folder / "figures").iterdir()})
    assert seen[0] == seen[1]
    assert set(seen[0]) == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    page = run.page.read_text()
    assert all(f"](figures/{name}.svg)" in page for name in names)


def test_the_forest_holds_the_comparisons(results):
    frame = angles.comparisons(results)
    axes = compared.forest(results, frame, "deg").axes[0]
    points = marked(axes, "difference")
    assert len(points) == len(frame) == 12
    by_names = {point.get_gid(): point for point in points}
    for line in frame.itertuples():
        point = by_names[f"difference {line.train} {line.test} {line.model} {line.method} {line.baseline}"]
        assert point.get_xdata()[0] == pytest.approx(line.difference_deg)
        place = point.get_ydata()[0]
        bar = next(each for each in axes.lines if len(each.get_xdata()) == 2 and set(each.get_ydata()) == {place})
        assert list(bar.get_xdata()) == pytest.approx([line.low_deg, line.high_deg])
        filled = point.get_markerfacecolor() != "white"
        assert filled == ("kd" in (line.method, line.baseline) or line.finding == "equivalent")
        assert (point.get_fillstyle() == "left") == (line.finding == "equivalent")
    assert set(frame[frame.method == "kd"].finding) == {"different"}
    assert set(frame[(frame.method == "kd_prune") & (frame.baseline == "base")].finding) == {"equivalent"}
    shaded = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shaded.x0, shaded.x1) == pytest.approx((-0.5, 0.5))


def test_an_interval_that_leaves_the_forest_ends_in_an_arrow(results):
    frame = angles.comparisons(results)
    frame.loc[0, ["low_deg", "high_deg"]] = [-40.0, 38.0]
    axes = compared.forest(results, frame, "deg").axes[0]
    limit = axes.get_xlim()[1]
    assert limit < 5
    ends = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("<", ">")]
    assert sorted(ends) == pytest.approx([-limit, limit])


def test_many_rows_do_not_overlap(results):
    frame = angles.comparisons(results)
    figure = compared.forest(results, pd.concat([frame] * 4, ignore_index=True), "deg")
    places = sorted(point.get_ydata()[0] for point in marked(figure.axes[0], "difference"))
    assert len(places) == 48
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(not a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_pairs_are_the_subjects_means(results):
    frame = angles.comparisons(results)
    figure = compared.paired(results, frame[frame.test == OTHER])
    assert len(figure.axes) == 6  # three pairs, trained on either
    errors = results.errors[(results.errors.test == OTHER) & (results.errors.train == OTHER)]
    means = errors.groupby(["method", "subject"]).error.mean()
    axes = figure.axes[0]
    falls, rises = (
        [segment[:, 1] for segment in lines.get_segments()]
        for lines in axes.collections
        if isinstance(lines, LineCollection)
    )
    assert np.array(falls) == pytest.approx(np.stack([means["base"], means["kd"]], axis=1))
    assert rises == []
    of_kd = mean_interval(errors[errors.method == "kd"])
    assert marked(axes, "mean")[1].get_ydata()[0] == pytest.approx(of_kd.mean)
    assert "better for 5 of 5" in texts(figure)


def test_learning_curves_are_means_and_ranges(results):
    axes = learning.learning(results, OWN).axes[0]
    for line in axes.lines:
        assert line.get_ydata() == pytest.approx(12 / np.arange(1, 7) + 1)  # seeds 0, 1, 2 add their number
    band = axes.collections[0].get_paths()[0].vertices
    first = band[np.isclose(band[:, 0], 1), 1]
    assert (first.min(), first.max()) == pytest.approx((12, 14))
    assert len({(line.get_marker(), str(line._dash_pattern)) for line in axes.lines}) == 3


def test_epochs_that_a_run_lacks_are_not_drawn(results):
    history = results.history
    results.history = history[(history.seed != 1) | (history.epoch <= 4)]
    axes = learning.learning(results, OWN).axes[0]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2, 3, 4]] * 3


def test_the_matrix_holds_the_means(results):
    figure = matrix.draw(results, angles.cross_dataset(results))["cross-dataset"]
    own, across = angles.benchmark(results), angles.cross_dataset(results)
    for axes, method in zip(figure.axes, GAIN, strict=True):
        shown = [text.get_text() for text in axes.texts]
        expected = [
            row(own, dataset=OWN, method=method).error_deg,
            row(across, train=OWN, method=method).error_deg,
            row(across, train=OTHER, method=method).error_deg,
            row(own, dataset=OTHER, method=method).error_deg,
        ]
        assert shown == [f"{value:.2f}" for value in expected]


def test_cost_against_error(results):
    frame = efficiency.efficiency_run_size(results)
    frame.loc[frame.method == "base", "macs"] = 10.0**9
    figure = cost.draw(results, frame)["pareto"]
    assert len(figure.axes) == 8  # multiply-adds and parameters, own and other, of both
    axes, own = figure.axes[0], angles.benchmark(results)
    points = {line.get_gid(): line for line in marked(axes, "network")}
    for method in GAIN:
        point = points[f"network resnet18 {method}"]
        assert point.get_ydata()[0] == pytest.approx(row(own, dataset=OWN, method=method).error_deg)
        assert point.get_xdata()[0] == frame[frame.method == method].macs.iloc[0]
    # base costs least, kd errs least; kd_prune is beaten.
    assert len(marked(axes, "front")) == 2


def test_likeness_of_filters_against_torch(run, results, tmp_path):
    torch = pytest.importorskip("torch")
    from gazepipe.methods.rebirth import likeness, redundancy

    model = torch.nn.Sequential(torch.nn.Conv2d(2, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 6, 3))
    told = likeness(model, 64)
    path = tmp_path / "model.safetensors"
    save_file({name: value.detach().numpy() for name, value in model.state_dict().items()}, path)
    measured = filters.likeness(path, ["0", "2"])
    assert set(told) == set(measured) == {"0", "2"}
    for layer in told:
        assert told[layer] == pytest.approx(measured[layer], abs=1e-6)
    assert measured["0"]["mean"] == pytest.approx(redundancy(model[0].weight.flatten(1)).mean().item(), abs=1e-6)


def test_the_figure_of_filters_holds_what_was_written_down_and_the_weights(results):
    figure = filters.draw(results, None)["filters"]
    means = figure.axes[1]
    expected = [
        [filters.of_filters(toy_filters(name)[layer].reshape(8, -1))["mean"] for layer in LAYERS]
        for name in ("before", "after", "kd_prune")
    ]
    for line, values in zip(means.lines, expected, strict=True):
        assert line.get_ydata() == pytest.approx(values)
    shares = figure.axes[0].lines[0].get_ydata()
    assert (np.diff(shares[np.isfinite(shares)]) <= 0).all()


def test_the_best_the_middle_and_the_worst():
    samples = pd.DataFrame({"sample": range(9), "subject": list("aaabbbccc"), "error": [0, 1, 2, 3, 4, 5, 6, 7, 8.0]})
    best, median, worst = gaze.pick(samples, 3)
    assert list(best["sample"]) == [0, 3, 6]
    assert list(median["sample"]) == [2, 4, 6]
    assert list(worst["sample"]) == [2, 5, 8]
    assert [len(part) for part in gaze.pick(samples.head(2), 3)] == [2, 2, 2]


def test_arrows_point_where_the_gaze_goes():
    up, left = gaze.arrow(np.array([0.2, 0.0])), gaze.arrow(np.array([0.0, 0.2]))
    assert up == pytest.approx([0, -np.sin(0.2)])  # image coordinates: y runs down
    assert left == pytest.approx([-np.sin(0.2), 0])


def test_images_show_their_own_sample(run, results):
    figure = gaze.gaze(results, OWN)
    rows = results.own_predictions(OWN, "resnet18", "base", 0)
    rows = rows.assign(error=gaze.sample_errors(rows)).sort_values("error")
    axes = figure.axes[0]
    assert axes.get_xlabel() == f"{rows.subject.iloc[0]}: {rows.error.iloc[0]:.2f}°"
    image = open_store(run.folder / f"data/{OWN}.h5").image[int(rows["sample"].iloc[0])][0]
    assert np.array_equal(axes.images[0].get_array(), image)
    arrows = {text.get_gid(): text for text in axes.texts}
    assert set(arrows) == {"pitch", "pitch_pred"}
    start, end = np.array(arrows["pitch"].xyann), np.array(arrows["pitch"].xy)
    direction = gaze.arrow(rows[["pitch", "yaw"]].to_numpy()[0])
    assert (end - start) / np.linalg.norm(end - start) == pytest.approx(direction / np.linalg.norm(direction))


def test_the_best_network_is_chosen_by_validation(results):
    history = results.history
    better = (history.method == "kd") & (history.train == OTHER)
    results.history = history.assign(validation_error=history.validation_error - better)
    assert gaze.best_network(results, OTHER) == ("resnet18", "kd")
    assert gaze.best_network(results, OWN) == ("resnet18", "base")


# ---- what cannot be drawn is said


@pytest.mark.parametrize(("seeds", "subjects"), [([0], 5), ([0, 1], 1), ([0], 1)])
def test_one_seed_or_one_subject_is_drawn_without_intervals(tmp_path, seeds, subjects):
    results = results_of(make(tmp_path / "results", seeds, subjects))
    axes = compared.forest(results, angles.comparisons(results), "deg").axes[0]
    assert {point.get_markerfacecolor() for point in marked(axes, "difference")} == {"white"}
    _, *rows = axes.lines
    assert {len(line.get_xdata()) for line in rows} == {1}
    figure = compared.draw(results, angles.comparisons(results))[f"paired-{OWN}"]
    assert "(no interval)" in figure.axes[0].get_xlabel()


def test_a_run_that_lacks_a_subject_is_marked(tmp_path):
    run = make(tmp_path / "results")
    names = {"dataset": OWN, "model": "resnet18", "method": "kd", "fold": 0, "seed": 1}
    path = run.file(made("predict", "predictions", **names))
    whole = pd.read_csv(path)
    whole[(whole.subject != "s0") | (whole.test != OWN)].to_csv(path, index=False)
    results = results_of(run)
    frame = angles.comparisons(results)
    assert row(frame[frame.method == "kd"], train=OWN, test=OWN).reason != ""
    assert "no result" in texts(compared.forest(results, frame, "deg"))
    axes = compared.paired(results, frame[frame.test == OWN]).axes[0]
    assert [line.get_marker() for line in axes.lines if line.get_marker() == "x"] == ["x"]
    assert matrix.draw(results, None)["cross-dataset"].axes[1].texts[0].get_text() == "—"
    figure = cost.draw(results, efficiency.efficiency_run_size(results))["pareto"]
    assert "1 without an error" in [text.get_text() for text in figure.axes[0].texts]


def test_a_single_method_and_a_single_data_set(tmp_path):
    run = make(tmp_path / "results", methods=["base"], datasets=[OWN], folds={OWN: [0]})
    run.write()
    results = results_of(run)
    drawn = compared.draw(results, angles.comparisons(results))
    assert {*map(tuple, map(texts, drawn.values()))} == {("Nothing to compare: a single method.",)}
    assert "filters.svg" not in {path.name for path in (run.folder / "figures").iterdir()}
    assert "](figures/forest.svg)" not in run.page.read_text()


def test_runs_that_wrote_nothing_down_about_their_rebirth(tmp_path):
    run = make(tmp_path / "results")
    for _, _, path in run.inputs("filters"):
        if path.name == "run.json":
            path.write_text(json.dumps({"epochs": 1}))
    said = " ".join(texts(filters.draw(results_of(run), None)["filters"])).replace("\n", " ")
    assert "wrote nothing down about its re-birth" in said


def test_predictions_that_do_not_name_their_samples(tmp_path):
    run = make(tmp_path / "results")
    for path in {path for _, _, path in run.inputs("predictions")}:
        pd.read_csv(path).drop(columns="sample").to_csv(path, index=False)
    assert texts(gaze.gaze(results_of(run), OWN)) == ["The predictions do not name their samples."]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "cannot be read"),
        (lambda text: text.replace("validation_error", "other"), "cannot be read"),
        (lambda text: text.replace("12.0", "nan"), "finite validation error"),
        (lambda text: text + text.splitlines()[-1] + "\n", "one row"),
    ],
)
def test_a_damaged_history_is_named(tmp_path, change, said):
    run = make(tmp_path / "results")
    path = run.file(made("train", "history", dataset=OWN, model="resnet18", method="base", fold=0, seed=0))
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=rf"seed0/history\.csv: .*{said}"):
        learning.draw(results_of(run), None)


def test_damaged_weights_are_named(tmp_path):
    run = make(tmp_path / "results")
    path = run.file(made("train", "weights", dataset=OWN, model="resnet18", method="kd_prune", fold=0, seed=0))
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        run.write()
    assert not run.page.exists()
    assert not (run.folder / "figures").exists()


def test_text_is_broken_at_blanks():
    assert panels.wrapped("one two three", 7) == "one two\nthree"
    assert panels.wrapped("", 5) == ""
