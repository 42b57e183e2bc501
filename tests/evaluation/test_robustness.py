"""The stage `robustness`: clean errors are those of `predict`, networks meet the same images, batches do not matter."""

import numpy as np
import pandas as pd
import pytest
import torch
from toy_points import PATCH as POINT_PATCH
from toy_points import write_toy_points
from toy_store import HEIGHT, PATCH, WIDTH, write_toy_split, write_toy_store

from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.evaluation import robustness as module
from gazepipe.evaluation.corruption_sheet import beside, draw_corruptions
from gazepipe.evaluation.corruptions import CLEAN, KINDS
from gazepipe.evaluation.metrics import per_subject_errors, read_predictions
from gazepipe.evaluation.predict import predict
from gazepipe.evaluation.robustness import robustness, spread
from gazepipe.evaluation.settings import Jitter, PictureSettings, PredictSettings, RobustnessSettings
from gazepipe.models.registry import build
from gazepipe.models.weights import save_weights

SPEC = {"arch": "resnet18", "width": 0.125, "input": [1, HEIGHT, WIDTH]}
POINT_SPEC = {"arch": "resnet18", "width": 0.125, "input": [4, 24, 32]}
RUNS = [(0, 0), (0, 1), (1, 0), (1, 1)]
SETTINGS = RobustnessSettings(model=SPEC, runs=RUNS, device="cpu", threads=1, samples=40, jitter=Jitter(repeats=3))
ERRORS = ["fold", "seed", "subject", "corruption", "strength", "level", "error", "n"]
JITTER = ["fold", "seed", "subject", "std", "rms_s2s", "n", "repeats"]


def save_network(path, spec, seed, **extra):
    """An untrained network whose predictions differ from sample to sample."""
    torch.manual_seed(seed)
    model = build(spec)
    model.train()(torch.randn(64, *spec["input"]))
    torch.nn.init.normal_(model.head[-1].weight, std=0.1)
    save_weights(path, model, spec, {"mean": 0.4, "std": 0.3, "patch": PATCH, **extra})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustness")
    write_toy_store(folder / "toy.h5")
    write_toy_split(folder / "toy.csv")
    for number, (fold, seed) in enumerate(RUNS):
        save_network(folder / f"{fold}-{seed}.safetensors", SPEC, number)
    return folder


def run(folder, out, settings=SETTINGS):
    weights = [folder / f"{fold}-{seed}.safetensors" for fold, seed in settings.runs]
    files = {"errors": out / "errors.csv", "jitter": out / "jitter.csv"}
    robustness(settings, weights, folder / "toy.h5", folder / "toy.csv", **files)
    return tuple(pd.read_csv(path, dtype={"subject": str}) for path in files.values())


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    return run(folder, tmp_path_factory.mktemp("written"))


def test_a_row_for_each_run_subject_and_corruption(written):
    errors, jitter = written
    assert list(errors) == ERRORS
    assert list(jitter) == JITTER
    cells = [(0, 0, "s0"), (0, 0, "s1"), (0, 1, "s0"), (0, 1, "s1")]
    cells += [(1, seed, name) for seed in (0, 1) for name in ("s3", "s4")]
    keys = ["fold", "seed", "subject"]
    assert list(jitter[keys].itertuples(index=False, name=None)) == cells
    assert list(errors[keys].drop_duplicates().itertuples(index=False, name=None)) == cells
    kinds = errors.groupby(keys).agg({"corruption": list, "strength": list, "n": "unique"})
    assert all(each == [CLEAN, *(kind for kind in KINDS for _ in range(3))] for each in kinds.corruption)
    assert all(each == [0, *(6 * [1, 2, 3])] for each in kinds.strength)
    assert set(errors.n) == {40}
    assert set(jitter.n) == {4}
    assert set(jitter.repeats) == {3}
    assert (jitter[["std", "rms_s2s"]] > 0).all(axis=None)


def test_the_clean_errors_are_those_of_the_predictions(folder, written, tmp_path):
    errors, _ = written
    clean = errors[errors.corruption == CLEAN].set_index(["fold", "seed", "subject"]).error
    for fold, seed in RUNS:
        settings = PredictSettings(model=SPEC, dataset="toy", fold=fold, tests=["toy"], device="cpu", threads=1)
        weights, out = folder / f"{fold}-{seed}.safetensors", tmp_path / "p.csv"
        predict(settings, weights, [folder / "toy.h5"], folder / "toy.csv", out)
        expected = per_subject_errors(read_predictions(out))
        np.testing.assert_allclose(clean[fold, seed][expected.index], expected, atol=1e-5)


def test_a_corrupted_error_is_the_networks_on_that_image(folder, tmp_path):
    """One image a subject: the error follows from the image that anybody can make."""
    from gazepipe.common.units import errors as errors_of
    from gazepipe.evaluation.corruptions import corrupt
    from gazepipe.models.weights import load_weights

    errors, _ = run(folder, tmp_path, SETTINGS.model_copy(update={"samples": 1}))
    store = open_store(folder / "toy.h5")
    row = int(np.flatnonzero(store.subject == "s1")[0])
    model, _ = load_weights(folder / "0-1.safetensors")
    mine = errors[(errors.seed == 1) & (errors.subject == "s1")].set_index(["corruption", "strength"]).error
    for kind in KINDS:
        image = corrupt(store.image[row], row, kind, getattr(SETTINGS, kind)[1])
        with torch.no_grad():
            gaze = model.eval()((torch.from_numpy(image[None].copy()).float() / 255 - 0.4) / 0.3).numpy()
        assert mine[kind, 2] == pytest.approx(errors_of(gaze, store.target[[row]], "rad")[0], abs=2e-4)


def test_neither_batches_nor_other_networks_change_anything(folder, written, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 7)
    alone = SETTINGS.model_copy(update={"runs": [(0, 1)]})
    for first, found in zip(written, run(folder, tmp_path, alone), strict=True):
        expected = first[(first.fold == 0) & (first.seed == 1)].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, atol=1e-4, rtol=1e-4)


def test_same_arguments_same_bytes(folder, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        run(folder, tmp_path / name, SETTINGS.model_copy(update={"samples": 2}))
    for file in ("errors.csv", "jitter.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_every_network_gets_the_same_images(folder, tmp_path, monkeypatch):
    """What two networks are shown, in two jobs with other batches, byte for byte."""
    shown: dict[str, list[bytes]] = {}

    def noting(weights, spec, stores, device):
        def network(images):
            shown.setdefault(weights.stem, []).append(images.numpy().tobytes())
            return np.zeros((len(images), 2), np.float32)

        return network

    monkeypatch.setattr(module, "predictor", noting)
    run(folder, tmp_path, SETTINGS.model_copy(update={"runs": [(0, 0)]}))
    monkeypatch.setattr(module, "BATCH", 5)
    run(folder, tmp_path, SETTINGS.model_copy(update={"runs": [(0, 1)]}))
    first, second = (b"".join(shown[name]) for name in ("0-0", "0-1"))
    assert len(shown["0-1"]) > len(shown["0-0"])
    assert first == second


def test_samples_are_spread_evenly():
    assert spread(np.arange(10, 20), 4).tolist() == [10, 13, 16, 19]
    assert spread(np.arange(3), 8).tolist() == [0, 1, 2]
    assert spread(np.arange(5, 9), 1).tolist() == [5]


def test_weights_of_other_runs_than_stated_are_refused(folder, tmp_path):
    files = [folder / name for name in ("toy.h5", "toy.csv")]
    with pytest.raises(UserError, match="1 weights of 4 runs; name one file for each"):
        robustness(SETTINGS, [folder / "0-0.safetensors"], *files, tmp_path / "e.csv", tmp_path / "j.csv")


def test_bad_weights_leave_no_file(folder, tmp_path):
    (tmp_path / "0-0.safetensors").write_bytes(b"nothing")
    for name in ("toy.h5", "toy.csv"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(UserError, match=r"0-0\.safetensors: "):
        run(tmp_path, tmp_path, SETTINGS.model_copy(update={"runs": [(0, 0)]}))
    assert not (tmp_path / "errors.csv").exists()


# ---- gaze points, four views


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    write_toy_points(folder / "toy.h5", 10)
    write_toy_split(folder / "toy.csv")
    extra = {"patch": POINT_PATCH, "units": "px", "target_scale": [640.0, 640.0]}
    save_network(folder / "0-0.safetensors", POINT_SPEC, 0, **extra)
    return folder


def test_points_are_told_in_pixels(points, tmp_path):
    settings = SETTINGS.model_copy(update={"model": POINT_SPEC, "runs": [(0, 0)]})
    errors, jitter = run(points, tmp_path, settings)
    predicted = PredictSettings(model=POINT_SPEC, dataset="toy", fold=0, tests=["toy"], device="cpu", threads=1)
    weights, store, split = (points / name for name in ("0-0.safetensors", "toy.h5", "toy.csv"))
    predict(predicted, weights, [store], split, tmp_path / "p.csv")
    expected = per_subject_errors(read_predictions(tmp_path / "p.csv"))
    clean = errors[errors.corruption == CLEAN].set_index("subject").error
    np.testing.assert_allclose(clean, expected, rtol=1e-5)
    assert (jitter["std"] > 0.01).all()


@pytest.mark.parametrize("kind", ["folder", "points"])
def test_the_picture_of_the_corruptions(kind, tmp_path, request):
    there = request.getfixturevalue(kind)
    settings = PictureSettings(dataset="toy", fold=0)
    for name in ("a.png", "b.png"):
        draw_corruptions(settings, there / "toy.h5", there / "toy.csv", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_views_are_shown_in_a_block():
    views = np.stack([np.full((3, 5), value, np.uint8) for value in (1, 2, 3, 4)])
    block = beside(views)
    assert block.shape == (3 + 4 + 3, 5 + 4 + 5)
    assert (block[0, 0], block[0, -1], block[-1, 0], block[-1, -1], block[4, 0]) == (1, 2, 3, 4, 255)
    assert beside(views[:1]) is not None
    np.testing.assert_array_equal(beside(views[:1]), views[0])
