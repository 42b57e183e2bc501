"""The style of figures: colours for every eye, looks that differ, bytes that do not."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from gazepipe.common import plotting

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
SIMULATED = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "none": np.eye(3),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of linear RGB."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / TO_XYZ.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", SIMULATED)
def test_colours_differ_for_every_eye(eye):
    seen = [lab(np.array(SIMULATED[eye]) @ linear(colour)) for colour in plotting.COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_colours_stand_out_from_white_paper():
    assert all(lab(linear(colour))[0] < 75 for colour in plotting.COLOURS)


def test_no_two_things_look_alike_in_grey():
    found = list(plotting.looks(map(str, range(50))).values())
    assert len({(look.marker, str(look.line)) for look in found}) == 50
    assert len({(look.colour, str(look.line)) for look in found[:40]}) == 40


def test_a_networks_look_is_that_of_its_method_and_model():
    found = plotting.network_looks(["a", "b"], ["base", "kd"])
    assert found["a", "kd"].colour == found["b", "kd"].colour != found["a", "base"].colour
    assert found["a", "kd"].line == found["b", "kd"].line != found["a", "base"].line
    assert found["a", "kd"].marker == found["b", "kd"].marker != found["a", "base"].marker
    assert found["a", "kd"].fill == found["a", "base"].fill != found["b", "kd"].fill


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_figures_give_equal_bytes(tmp_path, kind):
    for name in "ab":
        figure = Figure()
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], marker="o", clip_on=True)
        axes.set_title("title")
        plotting.save(figure, tmp_path / f"{name}.{kind}")
    first, second = (tmp_path / f"{name}.{kind}" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert b"date" not in first.read_bytes().lower()
