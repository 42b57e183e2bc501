"""`gazepipe data`: overlays as Snakemake has them, what list and show say, and what check finds. Nothing is written."""

import copy
import shutil

import cv2
import numpy as np
import pytest
import yaml
from native_layouts import patches, write_manifest
from snakemake.utils import update_config
from toy_config import PATH

from gazepipe import cli
from gazepipe.config import catalogue
from gazepipe.config import load as config
from gazepipe.config.schema import Dataset
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.datasets.fetch.fetch import fetch
from gazepipe.datasets.prepare import merge, write_part
from gazepipe.errors import UserError

OWN = {
    "layout": "manifest",
    "subjects": 1,
    "source": {"path": "own"},
    "split": {"protocol": "k-fold", "folds": 2},
    "manifest": {"normalise": "none"},
    "licence": "CC0",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a configuration and an overlay: own images, and small drawn faces."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PATH, "config.yaml")
    drawn = {"layout": "mpiifacegaze", "subjects": 2, "source": {"drawn": {"images": 12, "size": 64}}}
    drawn["split"] = {"protocol": "leave-one-out"}
    url = {"archives": [{"url": "https://example.org/a.zip", "size": 5_000_000}], "licence": "CC BY-NC-SA 4.0"}
    url |= {"terms": "https://example.org/terms", "consent_required": True, "citation": "Smith 2013"}
    loaded = {"layout": "columbia", "subjects": 56, "source": {"url": url}, "split": {"protocol": "columbia"}}
    overlay = {"datasets": {"own": OWN, "faces": drawn, "loaded": loaded}, "patch": {"height": 24}}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    write_manifest(tmp_path / "own", patches(tmp_path / "own", 12))
    return tmp_path


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def run(capsys, *arguments):
    status = cli.main(["data", *arguments, "--configfile", "overlay.yaml"])
    out, err = capsys.readouterr()
    return status, out, err


def test_overlays_are_merged_as_snakemake_merges_them():
    base = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": 3, "f": {"g": 1}}
    overlay = {"a": {"c": {"d": [3]}, "h": None}, "e": {"x": 1}, "f": 2}
    theirs = copy.deepcopy(base)
    update_config(theirs, overlay)
    assert config.merged(base, overlay) == theirs
    assert base["a"]["c"]["d"] == [1, 2]


def test_list_names_every_data_set_of_the_catalogue(place, capsys):
    before = snapshot(place)
    status, out, _ = run(capsys, "list")
    assert status == 0
    rows = {line.lstrip("* ").split()[0]: line for line in out.splitlines()}
    assert set(rows) == {"name", "columbia-drawn", "mpiifacegaze-drawn", "near-eye-drawn", "own", "faces", "loaded"}
    assert rows["columbia-drawn"].startswith("*")
    for part in ("manifest", "path", "CC0", "there"):
        assert part in rows["own"]
    for part in ("CC BY-NC-SA 4.0", "5.0 MB to load", "not fetched", "56"):
        assert part in rows["loaded"]
    assert snapshot(place) == before


def test_show_before_and_after_preparation(place, capsys):
    _, out, _ = run(capsys, "show", "loaded")
    for part in ("needed, not given", "https://example.org/terms", "Smith 2013", "https://example.org/a.zip"):
        assert part in out
    assert "snakemake --cores 2 -- results/data/loaded.h5" in out
    plan = Plan(config.load_files(["overlay.yaml"]))
    fetch(plan.settings(Job.of("fetch", dataset="faces")), place / "data/raw/faces.json", 1)
    patch = plan.config.patch.model_dump()
    write_part("data/raw/faces", "mpiifacegaze", patch, ["p00", "p01"], 0, 1, "part.h5")
    merge(["part.h5"], "results/data/faces.h5", "results/data/faces.rejected.csv", {"dataset": "faces"}, 0.0)
    before = snapshot(place)
    _, out, _ = run(capsys, "show", "faces")
    assert "24 images of 2 subjects, 12 to 12 each" in out
    assert "state     prepared" in out
    assert out.count("standard deviation") == 4
    assert "0 images could not be used" in out
    counts = [int(line.split()[-1]) for line in out.splitlines() if " to " in line and "#" in line]
    assert sum(counts) == 4 * 24
    assert run(capsys, "check", "faces")[:2] == (0, "faces: no problem found\n")
    assert snapshot(place) == before
    (place / "results/data/faces.h5").write_bytes(b"no store")
    assert "faces.h5: is damaged" in run(capsys, "check", "faces")[1]


def test_a_sound_data_set_has_no_problem(place, capsys):
    before = snapshot(place)
    assert run(capsys, "check", "own")[:2] == (0, "own: no problem found\n")
    assert snapshot(place) == before


def test_check_finds_every_fault_of_a_manifest(place, capsys):
    rows = patches(place / "own", 12)
    rows[3], rows[7] = "3.png,anna,30,0", rows[0]
    write_manifest(place / "own", rows)
    status, out, err = run(capsys, "check", "own")
    assert status == 2
    assert "row 5: pitch is 30" in out
    assert "row 9: image '0.png' is that of row 2 again" in out
    assert err.count("\n") == 1
    assert "problems found: 2" in err


def test_check_finds_what_single_rows_do_not_show(place, capsys):
    rows = patches(place / "own", 12)
    (place / "own" / "1.png").unlink()
    shutil.copy(place / "own" / "2.png", place / "own" / "3.png")
    cv2.imwrite(str(place / "own" / "4.png"), np.full((36, 60), 90, np.uint8))
    write_manifest(
        place / "own", [f"{number}.png,anna,{1.2 + 0.001 * number},{-0.1 * number}" for number in range(len(rows))]
    )
    _, out, _ = run(capsys, "check", "own")
    for part in (
        "own/1.png: row 3: cannot be read",
        "1 images of anna have almost no contrast (first: 4.png)",
        "gaze pitch hardly varies",
        "gaze pitch reaches 69 degrees"[:11],
        "1 of 11 patches are copies of others",
    ):
        assert part in out


def test_radians_that_are_declared_to_be_degrees_are_noticed(place, capsys):
    overlay = yaml.safe_load((place / "overlay.yaml").read_text())
    overlay["datasets"]["own"]["manifest"]["units"] = "degrees"
    (place / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    write_manifest(place / "own", [f"{n}.png,anna,{0.02 * n:g},{-0.03 * n:g}" for n in range(12)])
    assert run(capsys, "check", "own")[1].count("are they radians?") == 2


def test_check_counts_missing_and_surplus_subjects(place, capsys):
    patches(place / "own", 24)
    write_manifest(
        place / "own", [f"{n}.png,{'anna' if n % 2 else 'bert'},{0.05 * n:g},{0.02 * n:g}" for n in range(24)]
    )
    assert "holds 2 subjects, the configuration says 1: leaves out bert" in run(capsys, "check", "own")[1]
    overlay = yaml.safe_load((place / "overlay.yaml").read_text())
    overlay["datasets"]["own"]["subjects"] = 3
    (place / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    assert "holds 2 subjects, expected 3" in run(capsys, "check", "own")[1]


def test_what_is_not_there_is_said(place, capsys):
    assert "is not fetched yet; run snakemake" in run(capsys, "check", "loaded")[1]
    shutil.rmtree(place / "own")
    assert "own: is not there; correct datasets.own.source.path" in run(capsys, "check", "own")[1]
    assert "missing" in run(capsys, "list")[1]
    status, _, err = run(capsys, "check", "onw")
    assert status == 2
    assert "is not in the catalogue" in err
    assert "names no data set" in run(capsys, "show")[2]


def test_a_layout_that_the_patch_does_not_go_with_is_checked_with_its_own(place):
    loaded = config.load_files(["overlay.yaml"])
    eyes = Dataset.model_validate({**OWN, "layout": "mpiigaze", "manifest": None})
    assert catalogue._patch(loaded, eyes) == {"kind": "eye", "height": 36, "width": 60}
    assert catalogue._patch(loaded, loaded.datasets["faces"])["height"] == 24


def test_an_overlay_that_is_missing_is_named(place):
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        config.load_files(["none.yaml"])


def test_gaze_points_are_counted_and_judged_in_pixels(tmp_path):
    from gazepipe.datasets.store import open_store, write_store

    target = np.column_stack([np.linspace(300, 900, 24), np.full(24, 400.0)])
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (24, 4, 8, 8), np.uint8),
        "target": target,
        "head_pose": np.zeros((24, 2)),
        "subject": "train-01",
        "frame": [f"{row:04d}" for row in range(24)],
    }
    patch = {"kind": "near-eye", "height": 8, "width": 8}
    attrs = {"dataset": "d", "patch": patch, "source": "none", "task": "gaze point", "units": "px"}
    write_store(tmp_path / "d.h5", [batch], {**attrs, "target_scale": [1280.0, 1280.0]})
    words = [(word, unit) for word, _, unit in catalogue._labels(open_store(tmp_path / "d.h5"))]
    assert words == [("gaze x", "scene pixels"), ("gaze y", "scene pixels")]
    entry = config.load_files([]).datasets["near-eye-drawn"]
    assert list(catalogue._label_problems(entry, target)) == ["gaze y hardly varies: 0.00 px standard deviation"]
    assert catalogue._patch(config.load_files([]), entry) == {"kind": "near-eye", "height": 192, "width": 240}
