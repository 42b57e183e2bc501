"""The writers of ETH-XGaze, MPIIGaze and manifests: bytes that repeat, names, blocks, and the workers' number."""

import re

import numpy as np
import pytest

from gazepipe.datasets.layouts import mpiigaze
from gazepipe.drawn.draw import draw
from gazepipe.errors import UserError

SMALL = {
    "ethxgaze": {"layout": "ethxgaze", "subjects": 2, "seed": 3, "images": 5, "size": 64},
    "mpiigaze": {"layout": "mpiigaze", "subjects": 2, "seed": 3, "images": 11},
    "manifest": {"layout": "manifest", "subjects": 2, "seed": 3, "images": 2, "size": 96},
}
FILES = {
    "ethxgaze": r"train/subject000[01]\.h5",
    "mpiigaze": r"Data/Normalized/p0[01]/day0[12]\.mat|Evaluation Subset/sample list for eye image/p0[01]\.txt",
    "manifest": r"labels\.csv|images/s0[01]/00[01]\.jpg",
}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", SMALL)
def test_bytes_repeat_whatever_the_number_of_workers(layout, tmp_path):
    draw(SMALL[layout], tmp_path / "one", workers=1)
    draw(SMALL[layout], tmp_path / "two", workers=2)
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "two")
    assert all(re.fullmatch(FILES[layout], name) for name in first)
    draw({**SMALL[layout], "seed": 4}, tmp_path / "other", workers=1)
    other = contents(tmp_path / "other")
    changed = [name for name in first if first[name] != other[name]]
    assert len(changed) == len([name for name in first if not name.endswith(".txt")])
    draw(SMALL[layout], tmp_path / "one", workers=1)  # once more over what is there
    assert contents(tmp_path / "one") == first


@pytest.mark.parametrize("layout", SMALL)
def test_other_files_and_keys_are_refused(layout, tmp_path):
    with pytest.raises(UserError, match="scale: unknown in drawn"):
        draw({**SMALL[layout], "scale": 0.5}, tmp_path / "a", workers=1)
    (tmp_path / "p07.mat").touch()
    with pytest.raises(UserError, match=r"p07\.mat: found in the folder"):
        draw(SMALL[layout], tmp_path, workers=1)


def test_eyes_have_one_size_and_look_down_at_the_screen(tmp_path):
    draw(SMALL["mpiigaze"], tmp_path, workers=1)
    with pytest.raises(UserError, match="size: unknown in drawn mpiigaze"):
        draw({**SMALL["mpiigaze"], "size": 64}, tmp_path / "b", workers=1)
    prepared = mpiigaze.prepare_subject(tmp_path, "p00", {"kind": "eye", "height": 36, "width": 60})
    degrees = np.degrees(prepared.target)
    assert -20 < degrees[:, 0].mean() < -5
    assert abs(degrees[:, 1].mean()) < 6
    # Histogram equalised, as in the release.
    levels = np.histogram(prepared.image, bins=4, range=(0, 256))[0] / prepared.image.size
    assert levels == pytest.approx([0.25] * 4, abs=0.06)
