"""`gazepipe video` and `gazepipe predict IMAGE`: what they write, and what they say of bad input."""

import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from drawn_face import HEIGHT, WIDTH, drawn_face, shifted
from tiny_bundle import expected, write_bundle

from gazepipe import cli
from gazepipe.common.video import fitted, video_writer
from gazepipe.errors import UserError
from gazepipe.live import video
from gazepipe.live.frames import open_frames
from gazepipe.live.gaze import Camera
from gazepipe.live.table import COLUMNS
from gazepipe.live.video import Options, run_video

av = pytest.importorskip("av")
pytest.importorskip("onnx")
FRAMES, RATE = 14, 25.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A head that moves to the right, as H.264."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_clip(path, [shifted(drawn_face(), 2 * step, 0) for step in range(FRAMES)])


def write_clip(path, images, codec="libx264", times=None):
    container = av.open(str(path), "w")
    stream = container.add_stream(codec, 25)
    stream.height, stream.width = images[0].shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.gop_size = 4
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts = index if times is None else times[index]
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
    container.close()
    return path


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def decoded(path):
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]


# What is written


@pytest.fixture(scope="module")
def run(clip, bundle, tmp_path_factory):
    """The folder and the report of a run over the clip."""
    folder = tmp_path_factory.mktemp("run")
    report = run_video(str(clip), bundle, Options(output=folder / "out.mp4", csv=folder / "gaze.csv", smooth=True))
    return folder, report


def test_the_video_plays_in_a_browser(run):
    path = run[0] / "out.mp4"
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (WIDTH, HEIGHT)


def test_all_frames_keep_their_times_and_what_is_not_drawn_on(run, clip):
    before, after = decoded(clip), decoded(run[0] / "out.mp4")
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-3)
    for (_, source), (_, drawn) in zip(before, after, strict=True):
        corner = np.s_[HEIGHT - 80 :, :100]
        assert np.abs(source[corner].astype(int) - drawn[corner]).mean() < 4
        assert np.abs(source.astype(int) - drawn).max() > 60


def test_the_table_has_a_row_for_each_face_and_frame(run):
    rows = rows_of(run[0] / "gaze.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["frame"]) for row in rows] == list(range(FRAMES))
    assert {row["face"] for row in rows} == {"1"}
    assert [float(row["time_s"]) for row in rows] == pytest.approx(np.arange(FRAMES) / RATE)
    lefts = np.array([float(row["left"]) for row in rows])
    assert np.diff(lefts).mean() == pytest.approx(2, abs=0.3)


def test_the_report_tells_rate_faces_and_jitter(run):
    report = run[1]
    assert f"{FRAMES} frames of {WIDTH}x{HEIGHT}" in report
    assert f"faces: 1, in {FRAMES} frames; the detector looked at 1 frames" in report
    for words in ("frames/s", "ms a frame (CPU): read", "jitter: ", "smoothed: ", "focal length = longer side"):
        assert words in report


def test_smoothing_only_steadies(clip, bundle, run, tmp_path):
    run_video(str(clip), bundle, Options(csv=tmp_path / "raw.csv"))
    raw, smooth = (rows_of(path) for path in (tmp_path / "raw.csv", run[0] / "gaze.csv"))
    assert raw[0] == smooth[0]
    yaw = [np.array([float(row["yaw_deg"]) for row in rows]) for rows in (raw, smooth)]
    assert 0 < np.abs(yaw[0] - yaw[1]).max() < 1
    assert [row["left"] for row in raw] == [row["left"] for row in smooth]
    assert np.abs(np.diff(yaw[1], 2)).sum() < np.abs(np.diff(yaw[0], 2)).sum()


def test_runs_repeat_to_the_byte(clip, bundle, tmp_path):
    for name in "ab":
        run_video(str(clip), bundle, Options(csv=tmp_path / f"{name}.csv", frames=5))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(rows_of(tmp_path / "a.csv")) == 5


def test_angles_are_the_network_s(clip, bundle, tmp_path):
    """The mean brightness of the patch goes through the network's closed form."""
    run_video(str(clip), bundle, Options(csv=tmp_path / "raw.csv", runtime="onnxruntime", frames=2))
    row = rows_of(tmp_path / "raw.csv")[0]
    pitch, yaw = (float(row[f"{name}_normalised_deg"]) for name in ("pitch", "yaw"))
    # Pitch and yaw are two lines over the same mean: one tells the other.
    levels = np.repeat(np.arange(256, dtype=np.uint8), 16).reshape(256, 4, 4)
    lines = np.degrees(expected(levels))
    assert np.interp(pitch, lines[:, 0], lines[:, 1]) == pytest.approx(yaw, abs=0.01)


def test_a_folder_of_images_is_a_video_of_its_own_rate(bundle, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), drawn_face())
    (folder / "1.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    report = run_video(str(folder), bundle, Options(csv=tmp_path / "g.csv", output=tmp_path / "o.mp4", rate=2.0))
    assert [(row["frame"], row["time_s"]) for row in rows_of(tmp_path / "g.csv")] == [("0", "0.0000"), ("2", "1.0000")]
    assert [time for time, _ in decoded(tmp_path / "o.mp4")] == pytest.approx([0, 1])
    assert "skipped: 1 frames" in report
    assert f"{folder / '1.png'}: neither JPEG nor PNG; convert it; skipped" in capsys.readouterr().err


def test_times_of_a_variable_rate_are_kept(bundle, tmp_path):
    times = [10, 11, 15, 16, 30]
    write_clip(tmp_path / "vfr.mkv", [drawn_face()] * 5, times=times)
    run_video(str(tmp_path / "vfr.mkv"), bundle, Options(csv=tmp_path / "g.csv", output=tmp_path / "o.mp4"))
    expected_s = (np.array(times) - times[0]) / RATE
    assert [float(row["time_s"]) for row in rows_of(tmp_path / "g.csv")] == pytest.approx(expected_s, abs=1e-3)
    assert [time for time, _ in decoded(tmp_path / "o.mp4")] == pytest.approx(expected_s, abs=1e-3)


def test_odd_sizes_can_be_written(bundle, tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), drawn_face()[:431, :647])
    run_video(str(tmp_path / "images"), bundle, Options(output=tmp_path / "o.mp4"))
    assert decoded(tmp_path / "o.mp4")[0][1].shape == (430, 646, 3)


def test_fitting_keeps_the_aspect():
    wide = np.full((50, 100, 3), 200, np.uint8)
    canvas = fitted(wide, 100, 100)
    assert canvas.shape == (100, 100, 3)
    assert (canvas[25:75] == 200).all()
    assert not canvas[:25].any()
    assert not canvas[75:].any()
    assert np.array_equal(fitted(wide, 100, 50), wide)


def test_a_run_can_be_interrupted_and_leaves_what_it_has(clip, bundle, tmp_path, monkeypatch):
    class Impatient(video.Tracker):
        calls = 0

        def __call__(self, image):
            Impatient.calls += 1
            if Impatient.calls == 4:
                raise KeyboardInterrupt
            return super().__call__(image)

    monkeypatch.setattr(video, "Tracker", Impatient)
    report = run_video(str(clip), bundle, Options(csv=tmp_path / "g.csv", output=tmp_path / "o.mp4"))
    assert "3 frames" in report
    assert len(decoded(tmp_path / "o.mp4")) == len(rows_of(tmp_path / "g.csv")) == 3


def test_without_a_display_the_window_is_left_out(clip, bundle, monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    run_video(str(clip), bundle, Options(show=True, frames=1))
    assert "--show: no display; going on without a window" in capsys.readouterr().err


# Bad input


def refused(source, bundle, tmp_path, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        run_video(str(source), bundle, Options(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(range(256)) * 40])
def test_what_is_no_video_is_refused(bundle, tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    refused(path, bundle, tmp_path, r"clip\.mp4: is no video, or is cut short", output=tmp_path / "o.mp4")
    assert sorted(tmp_path.iterdir()) == [path]


def test_sources_that_are_not_there_are_refused(bundle, tmp_path):
    refused(tmp_path / "none.mp4", bundle, tmp_path, r"none\.mp4: no such file or folder")
    refused("987", bundle, tmp_path, "987: no camera of this number")
    refused(tmp_path, bundle, tmp_path, r"holds no \.jpg, \.jpeg, \.png")


def test_a_file_without_frames_is_refused(bundle, tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    refused(tmp_path / "sound.mp4", bundle, tmp_path, "holds no pictures")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    refused(folder, bundle, tmp_path, "holds no frame that can be decoded", output=tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()


def test_a_video_that_is_cut_short_is_written_as_far_as_it_goes(clip, bundle, tmp_path, capsys):
    with video_writer(tmp_path / "whole.mp4", RATE) as sink:  # its index comes first
        for index in range(FRAMES):
            sink(drawn_face(), index / RATE)
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    options = {"output": tmp_path / "o.mp4", "csv": tmp_path / "g.csv"}
    refused(tmp_path / "cut.mp4", bundle, tmp_path, rf"ends after \d+ of {FRAMES} frames", **options)
    assert 0 < len(decoded(tmp_path / "o.mp4")) == len(rows_of(tmp_path / "g.csv")) < FRAMES
    assert "frames/s" in capsys.readouterr().out
    write_clip(tmp_path / "whole.mkv", [drawn_face()] * 60)
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 3])
    refused(tmp_path / "cut.mkv", bundle, tmp_path, r"ends after 0\.\d of 2\.4 s")
    (tmp_path / "no_index.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    refused(tmp_path / "no_index.mp4", bundle, tmp_path, "is no video, or is cut short")


def test_frames_that_cannot_be_decoded_are_skipped_and_counted(bundle, tmp_path):
    """Key frames only, so that a damaged one harms no other."""
    clip = write_clip(tmp_path / "clip.avi", [drawn_face()] * 6, codec="mpeg4")
    content = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    start, size = packets[0]
    content[start + 8 : start + 8 + size] = b"\xff" * size
    (tmp_path / "damaged.avi").write_bytes(content)
    frames = open_frames(str(tmp_path / "damaged.avi"))
    numbers = [number for number, _, _ in frames]
    assert frames.skipped > 0
    assert len(numbers) + frames.skipped >= 5
    assert len(set(numbers)) == len(numbers)


def test_a_video_without_faces_is_written_and_said_to_have_none(bundle, tmp_path):
    write_clip(tmp_path / "empty.mp4", [np.full((120, 160, 3), 90, np.uint8)] * 4)
    options = {"output": tmp_path / "o.mp4", "csv": tmp_path / "g.csv"}
    refused(tmp_path / "empty.mp4", bundle, tmp_path, "shows no face in 4 frames", **options)
    assert len(decoded(tmp_path / "o.mp4")) == 4
    assert (tmp_path / "g.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_frames_of_other_sizes_are_fitted(bundle, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index, picture in enumerate([drawn_face(), drawn_face()[:, 100:500], drawn_face()]):
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    options = {"output": tmp_path / "o.mp4", "csv": tmp_path / "g.csv"}
    report = run_video(str(folder), bundle, Options(**options))
    assert "3 frames of 400x432, 648x432" in report
    assert [image.shape for _, image in decoded(tmp_path / "o.mp4")] == [(HEIGHT, WIDTH, 3)] * 3
    assert [row["face"] for row in rows_of(tmp_path / "g.csv")] == ["1", "2", "3"]
    given = {"camera": Camera(None, (900, 900, 324, 216)), "output": tmp_path / "given.mp4"}
    refused(folder, bundle, tmp_path, "--camera: describes one size, frame 1 is 400x432 after 648x432", **given)
    assert not (tmp_path / "given.mp4").exists()


def test_a_video_that_changes_size_is_fitted(bundle, tmp_path):
    """Two MPEG-TS streams joined: the second has another size."""
    for name, image in (("a", drawn_face()), ("b", drawn_face()[:320, 100:580])):
        write_clip(tmp_path / f"{name}.ts", [image] * 5, codec="mpeg2video")
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    report = run_video(str(tmp_path / "both.ts"), bundle, Options(output=tmp_path / "o.mp4"))
    assert "648x432, 480x320" in report
    assert {image.shape for _, image in decoded(tmp_path / "o.mp4")} == {(HEIGHT, WIDTH, 3)}


def test_only_mp4_is_written(clip, bundle, tmp_path):
    refused(clip, bundle, tmp_path, r"o\.avi: only MP4 is written", output=tmp_path / "o.avi")
    refused(clip, bundle, tmp_path, r"clip\.mp4: is the input", output=clip.parent / "." / "clip.mp4")


# Commands


def test_predict_prints_json(bundle, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "face.png"), drawn_face())
    assert cli.main(["predict", str(tmp_path / "face.png"), "--bundle", str(bundle), "--focal", "2470"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["width"], found["height"]) == (WIDTH, HEIGHT)
    assert found["camera"] == {"fx": 2470, "fy": 2470, "cx": 323.5, "cy": 215.5, "guessed": False}
    (face,) = found["faces"]
    assert face["distance_mm"] == pytest.approx(2000, rel=0.12)
    assert np.linalg.norm(face["gaze"]) == pytest.approx(1, abs=1e-5)
    left, top, right, bottom = face["box"]
    for x, y in face["eyes"]:
        assert left < x < right
        assert top < y < bottom
    assert {"pitch_deg", "yaw_deg", "pitch_normalised_deg", "head_yaw_deg"} <= set(face)


def test_predict_of_a_picture_without_faces_is_an_empty_list(bundle, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "plain.png"), np.full((50, 60, 3), 90, np.uint8))
    assert cli.main(["predict", str(tmp_path / "plain.png"), "--bundle", str(bundle)]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "the following arguments are required: image, --bundle"),
        (["predict", "--settings", "{}", "--predictions", "x"], "required: --weights, --stores, --split"),
        (["predict", "face.png"], "the following arguments are required: --bundle"),
        (["video", "clip.mp4"], "--bundle"),
        (["video", "clip.mp4", "--bundle", "b", "--rate", "0"], "0 is no number above 0"),
        (["video", "clip.mp4", "--bundle", "b", "--frames", "x"], "x is no whole number above 0"),
    ],
)
def test_commands_say_what_is_missing(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "none.png", "--bundle", "BUNDLE"], "none.png: cannot be read"),
        (["predict", "none.png", "--bundle", "nowhere"], "nowhere: no such bundle"),
        (["video", "none.mp4", "--bundle", "BUNDLE"], "none.mp4: no such file"),
        (["video", "none.mp4", "--bundle", "BUNDLE", "--focal", "0"], "--focal: 0 is no focal length"),
        (["video", "none.mp4", "--bundle", "BUNDLE", "--int8"], "holds no model.int8.xml"),
    ],
)
def test_bad_input_is_one_line_and_status_2(bundle, arguments, message, capsys):
    assert cli.main([str(bundle) if word == "BUNDLE" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Blocker())
from gazepipe.cli import main
sys.exit(main())
"""
TRAINING_ONLY = [
    "torch",
    "pandas",
    "h5py",
    "scipy",
    "pydantic",
    "matplotlib",
    "yaml",
    "safetensors",
    "tqdm",
    "requests",
]


def run_without(blocked, *arguments):
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_numpy_opencv_and_openvino_suffice(clip, bundle, tmp_path):
    arguments = ["--bundle", bundle, "--output", tmp_path / "o.mp4", "--frames", 3, "--smooth"]
    done = run_without([*TRAINING_ONLY, "onnxruntime", "onnx"], "video", clip, *arguments)
    assert done.returncode == 0, done.stderr
    assert len(decoded(tmp_path / "o.mp4")) == 3


def test_numpy_opencv_and_onnxruntime_suffice(clip, bundle, tmp_path):
    """OpenCV then runs the face models and reads the video; only writing one needs PyAV."""
    blocked = [*TRAINING_ONLY, "openvino", "onnx", "av"]
    arguments = ["--bundle", bundle, "--runtime", "onnxruntime"]
    done = run_without(blocked, "video", clip, *arguments, "--csv", tmp_path / "g.csv")
    assert done.returncode == 0, done.stderr
    ours = tmp_path / "ours.csv"
    run_video(str(clip), bundle, Options(csv=ours))
    columns = ("time_s", "yaw_normalised_deg", "left", "distance_mm")
    found, known = (
        np.array([[float(row[name]) for name in columns] for row in rows_of(path)])
        for path in (tmp_path / "g.csv", ours)
    )
    assert found == pytest.approx(known, rel=0.02, abs=0.3)
    cv2.imwrite(str(tmp_path / "face.png"), drawn_face())
    done = run_without(blocked, "predict", tmp_path / "face.png", *arguments)
    assert len(json.loads(done.stdout)["faces"]) == 1
    done = run_without(blocked, "video", clip, *arguments, "--output", tmp_path / "o.mp4")
    assert done.returncode == 2
    assert "writing H.264 needs PyAV; run `pip install av`" in done.stderr
    done = run_without(blocked, "video", clip, "--bundle", bundle)
    assert "openvino: is not installed; run `pip install openvino`, or use --runtime onnxruntime" in done.stderr
