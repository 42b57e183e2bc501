"""The worked example of docs/adding-a-data-set.md, run as it stands there."""

import importlib.util
import re
import shutil
import subprocess
import sys
from typing import get_args

import cv2
import numpy as np
import pytest
import yaml
from toy_config import PATH, toy_config

from gazepipe.config import load as config
from gazepipe.config.schema import Dataset
from gazepipe.datasets import overview, prepare, settings
from gazepipe.datasets.layouts import manifest
from gazepipe.datasets.layouts.layout import reader
from gazepipe.datasets.layouts.settings import LAYOUTS
from gazepipe.datasets.settings import SheetSettings
from gazepipe.datasets.store import open_store
from gazepipe.drawn.draw import writer
from gazepipe.errors import UserError

EYE = {"kind": "eye", "height": 36, "width": 60}


@pytest.fixture
def blocks(repository) -> dict[str, str]:
    """The code blocks of the page by language."""
    text = (repository / "docs" / "adding-a-data-set.md").read_text()
    found = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    assert len(dict(found)) == len(found)
    return dict(found)


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (36, 60), np.uint8)
    cv2.imwrite(str(path), image)
    return image


def test_the_module_reads_its_layout_into_a_store(blocks, tmp_path, monkeypatch, capfd):
    path = tmp_path / "glances.py"
    path.write_text(blocks["python"])
    spec = importlib.util.spec_from_file_location("glances", path)
    glances = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(glances)
    monkeypatch.setitem(sys.modules, "gazepipe.datasets.layouts.glances", glances)
    raw = tmp_path / "raw" / "Glances-1.0"
    images = [picture(raw / person / f"{number:03d}.png", number) for person in ("anna", "bert") for number in range(2)]
    for person in ("anna", "bert"):
        (raw / person / "gaze.txt").write_text("000.png 0 5.5\n001.png -10 20\n002.png 0 0\n")
    names = prepare.expected_subjects(tmp_path / "raw", "glances", 2, {})
    prepare.write_part(tmp_path / "raw", "glances", EYE, names, 0, 1, tmp_path / "part.h5")
    prepare.merge([tmp_path / "part.h5"], tmp_path / "s.h5", tmp_path / "r.csv", {"dataset": "glances"}, 0.4)
    store = open_store(tmp_path / "s.h5")
    assert store.subject.tolist() == ["anna", "anna", "bert", "bert"]
    assert np.array_equal(store.image[:, 0], images)
    assert np.degrees(store.target) == pytest.approx(np.array([[0, 5.5], [-10, 20]] * 2), rel=1e-6)
    assert "002.png: cannot be read" in capfd.readouterr().err
    sheet = SheetSettings(dataset="g", layout="glances", options={})
    overview.write_overview(sheet, tmp_path / "raw", tmp_path / "s.h5", tmp_path / "s.png")
    assert cv2.imread(str(tmp_path / "s.png")) is not None
    (raw / "anna" / "gaze.txt").write_text("000.png 0 500\n")
    with pytest.raises(UserError, match=r"gaze\.txt row 0: yaw is 8\.7"):
        glances.prepare_subject(raw, "anna", EYE)


def test_the_block_and_the_table_of_the_manifest_are_read(blocks, tmp_path):
    raw = toy_config()
    raw["datasets"] |= yaml.safe_load(blocks["yaml"])["datasets"]
    own = config.load(raw).datasets["mine"]
    (tmp_path / "labels.csv").write_text(blocks["csv"])
    rows = manifest.read_rows(tmp_path, own.manifest.model_dump(exclude_none=True))
    assert [row.image for row in rows] == ["anna/0001.jpg", "anna/0002.jpg", "bert/0001.png"]
    assert len({row.subject for row in rows}) == own.subjects


def test_every_layout_that_can_be_chosen_has_a_reader_and_every_reader_is_declared(repository):
    assert get_args(Dataset.model_fields["layout"].annotation) == tuple(LAYOUTS)
    for name, layout in LAYOUTS.items():
        for part in ("GEOMETRY", "subjects", "prepare_subject", "native_image"):
            assert hasattr(reader(name), part), f"{name} lacks {part}"
        assert (getattr(reader(name), "TASK", "gaze angles") == "gaze point") == (layout.task == "point")
    files = {path.stem.replace("_", "-") for path in (repository / "gazepipe/datasets/layouts").glob("*.py")}
    assert files - {"--init--", "layout", "settings"} == set(LAYOUTS)


def test_every_layout_but_the_import_of_arrays_can_be_drawn(repository):
    files = {path.stem.replace("_", "-") for path in (repository / "gazepipe/drawn/layouts").glob("*.py")}
    drawn = {name for name, layout in LAYOUTS.items() if layout.drawn}
    assert files - {"--init--"} == drawn == set(LAYOUTS) - {"mpiigaze-npz"}
    for name in drawn:
        for part in ("DEFAULTS", "subject_name", "draw_subject"):
            assert hasattr(writer(name), part), f"the writer of {name} lacks {part}"


def test_the_declaration_in_the_page_makes_the_layout_one_that_can_be_chosen(blocks, repository, tmp_path):
    """In a copy of the package with the two places of the page."""
    shutil.copytree(repository / "gazepipe", tmp_path / "gazepipe", ignore=shutil.ignore_patterns("__pycache__"))
    place = tmp_path / "gazepipe/datasets/layouts"
    (place / "glances.py").write_text(blocks["python"])
    declared = (place / "settings.py").read_text()
    (place / "settings.py").write_text(declared.replace("LAYOUTS = {\n", f"LAYOUTS = {{\n    {blocks['text']}", 1))
    shutil.copy(PATH, tmp_path)
    block = {"layout": "glances", "subjects": 2, "source": {"path": "raw"}, "split": {"protocol": "leave-one-out"}}
    overlay = {"datasets": {"own": block}, "patch": EYE, "benchmark": {"datasets": ["own"], "folds": {}, "deploy": []}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(overlay))
    code = "from gazepipe.config.load import load_files; from gazepipe.dag.plan import Plan, Job; "
    code += "print(Plan(load_files(['own.yaml'])).modules(Job.of('prepare_part', dataset='own', part=0)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "'gazepipe.datasets.layouts.glances'" in shown.stdout, shown.stderr


def test_the_page_names_every_key_of_the_manifest(repository):
    page = (repository / "docs" / "adding-a-data-set.md").read_text()
    for key in (*settings.Manifest.model_fields, *settings.Camera.model_fields, *settings.Screen.model_fields):
        assert f"`{key}`" in page, key
