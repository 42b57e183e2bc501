"""Bundles are checked to the byte, and both runtimes compute what the network is."""

import json
import subprocess
import sys

import numpy as np
import pytest
from tiny_bundle import describe, expected, write_bundle

from gazepipe.errors import UserError
from gazepipe.geometry import VIEW_GEOMETRY, patch_camera, xgaze_camera
from gazepipe.live.bundle import load_bundle
from gazepipe.live.runtime import load_network

pytest.importorskip("onnx")
RUNTIMES = ["openvino", "onnxruntime"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle"))


def test_a_sound_bundle_is_read(bundle):
    loaded = load_bundle(bundle)
    assert loaded.patch == {"kind": "eyes", "height": 36, "width": 112}
    assert (loaded.mean, loaded.std, loaded.geometry) == (0.4, 0.25, VIEW_GEOMETRY)
    assert set(loaded.files) == {"model.onnx", "model.xml", "model.bin"}
    assert not loaded.equalised
    assert np.array_equal(loaded.camera(), patch_camera(loaded.patch))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_both_runtimes_compute_the_network(bundle, runtime):
    pytest.importorskip(runtime)
    network = load_network(load_bundle(bundle), runtime)
    patches = np.random.default_rng(0).integers(0, 256, (3, 36, 112), np.uint8)
    patches[1] //= 3
    assert network(patches) == pytest.approx(expected(patches), abs=1e-5)
    assert network(patches[:1]) == pytest.approx(expected(patches[:1]), abs=1e-5)


def test_the_geometry_decides_what_is_cut(tmp_path):
    def loaded(name, kind, geometry, height=224, width=224):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(b"x")
        describe(tmp_path / name, kind, height, width, geometry=geometry)
        return load_bundle(tmp_path / name)

    xgaze = "ETH-XGaze's normalised face (140 mm wide at 300 mm, no head roll); x right, y down"
    assert loaded("a", "face", xgaze).camera() == pytest.approx(xgaze_camera(224))
    assert loaded("b", "eyes", xgaze, 36, 112).camera() == pytest.approx(
        patch_camera({"kind": "eyes", "height": 36, "width": 112})
    )
    assert loaded("c", "eye", "normalised eye (60 x 36 px ...", 36, 60).equalised
    assert not loaded("d", "eye", "my own", 36, 60).equalised


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2, expected 1"),
        ({"task": "gaze point"}, "task is 'gaze point', expected 'gaze angles'"),
        ({"patch": {"kind": "near-eye", "height": 36, "width": 112}}, "expected a kind of face, eyes, eye"),
        ({"patch": "eyes"}, "patch is 'eyes'"),
        ({"patch": {"kind": "eyes", "height": 36.5, "width": 112}}, "height and width in pixels"),
        ({"patch": {"kind": "eyes", "height": 36, "width": 10**9}}, "height and width in pixels"),
        ({"input": [3, 36, 112]}, r"input is \[3, 36, 112\]"),
        ({"mean": None}, "mean is None"),
        ({"mean": float("nan")}, "mean is nan"),
        ({"std": 0}, "std is 0"),
        ({"geometry": 3}, "geometry is 3"),
        ({"files": {}}, "lists no files"),
        ({"files": {"../model.onnx": {"sha256": ""}}}, "no file of the bundle"),
        ({"files": {"model.onnx": "ab"}}, "no file of the bundle"),
        ({"files": {"model.int8.onnx": {"sha256": ""}}}, "model.int8.onnx: is missing"),
        ({"files": {"model.onnx": {"sha256": "0"}}}, "model.onnx: is not the file that was exported"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, change, message):
    (tmp_path / "model.onnx").write_bytes(b"x")
    describe(tmp_path, "eyes", 36, 112, **change)
    with pytest.raises(UserError, match=message) as caught:
        load_bundle(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[1]", "schema is 'list'"), ("\xff", "is not JSON"), ("[" * 100_000, "is not JSON")],
)
def test_a_description_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "preprocess.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"preprocess.json: {message}"):
        load_bundle(tmp_path)


def test_missing_bundles_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such bundle"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"preprocess\.json: cannot be read"):
        load_bundle(tmp_path)


def test_every_byte_of_every_file_counts(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    for name in load_bundle(folder).files:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match=f"{name}: is not the file"):
            load_bundle(folder)
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"{name}: is missing"):
            load_bundle(folder)
        (folder / name).write_bytes(content)
    load_bundle(folder)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_runtime_cannot_run_is_one_line(tmp_path, runtime):
    pytest.importorskip(runtime)
    (tmp_path / "model.onnx").write_bytes(b"no network")
    (tmp_path / "model.xml").write_text("<net>")
    describe(tmp_path, "eyes", 36, 112)
    bundle = load_bundle(tmp_path)
    with pytest.raises(UserError, match=f"{runtime} cannot run it") as caught:
        load_network(bundle, runtime)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"holds no model.int8.(xml|onnx)"):
        load_network(bundle, runtime, int8=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_network_of_another_shape_is_refused(tmp_path, runtime):
    pytest.importorskip(runtime)
    three = load_bundle(write_bundle(tmp_path / "three", offset=np.zeros(3)))
    with pytest.raises(UserError, match=r"gives \(1, 3\) for one patch"):
        load_network(three, runtime)
    other = write_bundle(tmp_path / "other", height=36, width=60)
    describe(other, "eyes", 36, 112)
    with pytest.raises(UserError, match=r"cannot run it|gives \(0, 2\)"):  # OpenVINO takes any size
        load_network(load_bundle(other), runtime)


def test_a_runtime_that_is_not_installed_is_named(bundle):
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from gazepipe.live.bundle import load_bundle; from gazepipe.live.runtime import load_network\n"
        f"load_network(load_bundle({json.dumps(str(bundle))}), 'onnxruntime')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UserError: onnxruntime: is not installed; run `pip install onnxruntime`" in done.stderr
