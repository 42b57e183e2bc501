"""The worked example of docs/adding-a-data-set.md, run as it stands there."""

import importlib.util
import re
from typing import get_args

import cv2
import numpy as np
import pytest
import yaml

from gazepipe.config import load as config
from gazepipe.config.schema import Dataset
from gazepipe.datasets import overview, prepare, settings
from gazepipe.datasets.layouts import manifest
from gazepipe.datasets.settings import SheetSettings
from gazepipe.datasets.store import open_store
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
    monkeypatch.setitem(prepare.LAYOUTS, "glances", glances)
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


def test_the_block_and_the_table_of_the_manifest_are_read(blocks, repository, tmp_path):
    raw = config.read(repository / "config.yaml")
    raw["datasets"] |= yaml.safe_load(blocks["yaml"])["datasets"]
    own = config.load(raw).datasets["mine"]
    (tmp_path / "labels.csv").write_text(blocks["csv"])
    rows = manifest.read_rows(tmp_path, own.manifest.model_dump(exclude_none=True))
    assert [row.image for row in rows] == ["anna/0001.jpg", "anna/0002.jpg", "bert/0001.png"]
    assert len({row.subject for row in rows}) == own.subjects


def test_the_configuration_knows_the_layouts_that_can_be_read():
    assert set(get_args(Dataset.model_fields["layout"].annotation)) == set(prepare.LAYOUTS)
    for name, reader in prepare.LAYOUTS.items():
        for part in ("GEOMETRY", "subjects", "prepare_subject", "native_image"):
            assert hasattr(reader, part), f"{name} lacks {part}"


def test_every_layout_but_the_import_of_arrays_can_be_drawn():
    from gazepipe.drawn import draw as synthetic

    assert set(synthetic.LAYOUTS) == set(synthetic.DEFAULTS) == set(prepare.LAYOUTS) - {"mpiigaze-npz"}


def test_the_page_names_every_key_of_the_manifest(repository):
    page = (repository / "docs" / "adding-a-data-set.md").read_text()
    for key in (*settings.Manifest.model_fields, *settings.Camera.model_fields, *settings.Screen.model_fields):
        assert f"`{key}`" in page, key
