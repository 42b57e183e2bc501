"""The near-eye video, decoded again: its format, where the marks lie, its numbers; one line for each mistake."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from native_layouts import HEADER, write_recording

from gazepipe.cli import main
from gazepipe.dag.places import data_files, data_of_run
from gazepipe.dag.stage import filled, places
from gazepipe.dag.stages import STAGES
from gazepipe.datasets.prepare import merge, write_part
from gazepipe.datasets.store import open_store
from gazepipe.models.registry import build
from gazepipe.models.weights import load_weights, save_weights
from gazepipe.near_eye import video

SIZE = (144, 160)
PATCH = {"kind": "near-eye", "height": SIZE[0], "width": SIZE[1]}
SCENE = (320, 180)
POINTS = {
    "test-03": [(60.25, 40.5), (250, 150), (160, 90), (100, 120), (200.5, 30)],
    "train-01": [(5, 5), (9, 9)],
    "val-02": [(1, 2)],
}
RUN = ("near-eye-toy", "itracker4", "base", 0, 0)
DATA = data_files("", RUN[0])


def weights_of(root: str) -> Path:
    """The weights of RUN in the results folder `root`."""
    names = dict(zip(STAGES["train"].wildcards, RUN, strict=True))
    return Path(filled(STAGES["train"].outputs["weights"], {"results": root, **names}))


WEIGHTS = weights_of("results")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project folder with a native data set, its store and receipt, and a run of a network that never learnt."""
    root = tmp_path_factory.mktemp("project")
    raw = root / DATA.raw
    for seed, (subject, points) in enumerate(POINTS.items()):
        role, number = subject.split("-")
        folder = raw / role / str(int(number)) / "IMG1"
        write_recording(folder, points, HEADER, SIZE, seed)
        for row in range(1, len(points) + 1):
            cv2.imwrite(str(folder / f"{row}_2.png"), np.full((SCENE[1], SCENE[0], 3), (150, 90, 120), np.uint8))
    store = root / DATA.store
    part = root / "part.h5"
    write_part(raw, "near-eye", PATCH, list(POINTS), 0, 1, part)
    merge([part], store, root / "rejected.csv", {"dataset": RUN[0]}, 0.0)
    (root / DATA.receipt).write_text(json.dumps({"folder": str(raw), "layout": "near-eye"}))
    _write_weights(root / WEIGHTS, open_store(store))
    return root


def _write_weights(path, store):
    """A random network whose points lie around the middle of the scene, apart from each other."""
    options = {"dimensions": 12, "output": "none"}
    spec = {"arch": "itracker4", "width": 0.5, "input": [4, *SIZE], "options": options}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = build(spec).eval()
        last = model.head[2]
        last.weight *= 0.1 / _outputs(model, store.image).std(dim=0)[:, None]
        last.bias += torch.tensor([0.5, 0.28]) - _outputs(model, store.image).mean(dim=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {name: store.attrs[name] for name in ("units", "target_scale", "patch", "dataset")}
    save_weights(path, model, spec, {"mean": 0.5, "std": 0.25, **facts})


@torch.no_grad()
def _outputs(model, images):
    return model.eval()((torch.from_numpy(np.array(images)).float() / 255 - 0.5) / 0.25)


@pytest.fixture
def project(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


@pytest.fixture(scope="module")
def film(made):
    out = made / "film.mp4"
    assert main(["near-eye-video", str(made / WEIGHTS.parent), "test-03", "--output", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def predicted(made):
    """What the network says of the subject's images, without the code under test."""
    store = open_store(made / DATA.store)
    model, _ = load_weights(made / WEIGHTS)
    return _outputs(model, store.image[store.subject == "test-03"]).numpy() * SCENE[0]


def _decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def _scene(image):
    """The scene frame as the video shows it: 710 x 399 px of the proportions 16 to 9, right of the eyes."""
    return image[72 : 72 + 399, 546 : 546 + 710].astype(int)


def test_it_is_h264_that_browsers_play(film):
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (1280, 720, 5, 12)
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(np.arange(5) / 12, abs=1e-4)
    data = film.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_the_square_lies_at_the_prediction_and_the_dot_at_the_truth(film, predicted):
    assert ((predicted > 30) & (predicted < np.array(SCENE) - 30)).all()  # otherwise the test sees nothing
    assert np.ptp(predicted, axis=0).min() > 5
    first = _scene(_decoded(film)[0])  # which has no trail
    scale = 710 / SCENE[0]
    green = np.argwhere((first[..., 1] > 170) & (first[..., 0] < 120) & (first[..., 2] < 120))
    middle = (green.min(axis=0) + green.max(axis=0))[::-1] / 2
    assert middle == pytest.approx(scale * (predicted[0] + 0.5) - 0.5, abs=1.5)
    x, y = (scale * (np.array(POINTS["test-03"][0]) + 0.5) - 0.5).round().astype(int)
    assert first[y, x].max() < 60
    ring = [first[y + 6 * dy, x + 6 * dx].min() for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    assert np.mean(ring) > 160


def test_the_marks_follow_the_frames_and_leave_a_trail(project, predicted):
    store = open_store(project / DATA.store)
    clip = video._clip(project / WEIGHTS, store, "test-03", None)
    assert clip.predicted == pytest.approx(predicted, abs=1e-3)
    assert clip.truth.tolist() == [list(point) for point in POINTS["test-03"]]
    blank = np.full((SCENE[1], SCENE[0], 3), 200, np.uint8)
    x, y = video.scene_points(np.array(POINTS["test-03"]), *SCENE).round().astype(int)[:2].T
    pictures = [video.draw(clip, number, blank) for number in range(3)]
    assert pictures[0][y[1], x[1]].tolist() == [200] * 3
    assert pictures[1][y[1], x[1]].max() < 20
    assert 20 < pictures[2][y[1], x[1]].max() < 150
    assert not np.array_equal(pictures[1][496:], pictures[2][496:])


def test_the_eyes_are_what_the_network_sees(project):
    image = np.zeros((4, *SIZE), np.uint8) + np.array([40, 90, 140, 190], np.uint8)[:, None, None]
    clip = video.Clip("s", "d", image[None], np.array([0]), ["0001"], np.ones((1, 2)), np.ones((1, 2)))
    picture = video.draw(clip, 0, np.zeros((180, 320, 3), np.uint8))
    eyes = picture[72:472, 24:522]
    assert [int(eyes[y, x, 0]) for y in (60, 260) for x in (120, 370)] == [40, 140, 90, 190]


def test_error_and_mean_are_reported_and_frames_and_rate_obeyed(project, capsys, predicted):
    run = str(WEIGHTS.parent)
    assert main(["near-eye-video", run, "test-03", "--frames", "3", "--rate", "4"]) == 0
    errors = np.linalg.norm(predicted - POINTS["test-03"], axis=1)[:3]
    assert f"3 frames of test-03, error {errors.mean():.1f} px in the mean" in capsys.readouterr().out
    with av.open("test-03.mp4") as container:
        assert (container.streams.video[0].frames, container.streams.video[0].average_rate) == (3, 4)


def test_equal_inputs_give_equal_bytes(project, film):
    weights = str(WEIGHTS)
    assert main(["near-eye-video", weights, "test-03", "--output", "again.mp4"]) == 0
    assert (project / "again.mp4").read_bytes() == film.read_bytes()


def test_a_moved_run_is_told_its_data(project, tmp_path, capsys):
    moved = tmp_path / "mine.safetensors"
    moved.write_bytes((project / WEIGHTS).read_bytes())
    arguments = ["near-eye-video", str(moved), "val-02", "--output", str(tmp_path / "a.mp4")]
    assert main(arguments) == 2
    assert "give --store and --receipt" in capsys.readouterr().err
    places = ["--store", str(DATA.store), "--receipt", str(DATA.receipt)]
    assert main([*arguments, *places]) == 0


@pytest.mark.parametrize("run", ["", "near1"])
def test_data_of_a_run_is_found_from_its_folder(tmp_path, run):
    weights = tmp_path / weights_of(places(run)["results"])
    files = data_files(run, RUN[0])
    assert data_of_run(weights) == (tmp_path / files.store, tmp_path / files.receipt)
    assert data_of_run(weights.parent) is None
    assert data_of_run(tmp_path / "elsewhere" / weights_of("mine")) is None


@pytest.mark.parametrize("step", [0.5, 1, 2, 5, 10, 20, 50, 100, 200])
def test_axis_steps_are_round_and_few(step):
    assert video._tick_step(4 * step) == pytest.approx(step)
    assert video._tick_step(4 * step * 1.001) > step


def _refused(capsys, *arguments):
    assert main(["near-eye-video", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    assert not [path for path in Path.cwd().iterdir() if "wrong" in path.name]
    return lines[-1]


def test_one_line_errors(project, capsys, tmp_path):
    run, out = str(WEIGHTS.parent), ("--output", "wrong.mp4")
    places = ["--store", str(DATA.store), "--receipt", str(DATA.receipt)]
    assert "has no subject 'test-99'; name one of test-03, train-01, val-02" in _refused(capsys, run, "test-99", *out)
    assert "no such weights file" in _refused(capsys, str(WEIGHTS.parent.with_name("seed7")), "test-03", *out)
    assert "only MP4 is written" in _refused(capsys, run, "test-03", "--output", "wrong.avi")

    store = open_store(places[1])
    spec = {"arch": "resnet18", "width": 0.25, "input": [1, 36, 60], "options": {}}
    other, facts = tmp_path / "other.safetensors", {"mean": 0.5, "std": 0.5, "patch": store.attrs["patch"]}
    save_weights(other, build(spec), spec, {**facts, "units": "rad"})
    assert "predicts no gaze points" in _refused(capsys, other, "test-03", *out, *places)
    save_weights(other, build(spec), spec, {**facts, "units": "px"})
    assert "the network takes 1x36x60" in _refused(capsys, other, "test-03", *out, *places)
    other.write_bytes(b"no weights at all")
    assert "not safetensors" in _refused(capsys, other, "test-03", *out, *places)

    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps({"folder": str(tmp_path / "gone"), "layout": "near-eye"}))
    assert "is not there" in _refused(capsys, run, "test-03", *out, "--receipt", receipt)
    receipt.write_text(json.dumps({"folder": str(tmp_path), "layout": "columbia"}))
    assert "layout columbia" in _refused(capsys, run, "test-03", *out, "--receipt", receipt)


def test_a_missing_scene_frame_leaves_no_half_video(project, capsys):
    frame = project / DATA.raw / "test" / "3" / "IMG1" / "4_2.png"
    kept = frame.read_bytes()
    frame.unlink()
    try:
        run = str(WEIGHTS.parent)
        assert "4_2.png: row 4: the picture is missing" in _refused(capsys, run, "test-03", "--output", "wrong.mp4")
    finally:
        frame.write_bytes(kept)


@pytest.mark.parametrize("arguments", [("--frames", "0"), ("--rate", "0"), ("--rate", "fast")])
def test_numbers_are_checked(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["near-eye-video", "run", "test-03", *arguments])
    assert "above 0" in capsys.readouterr().err
