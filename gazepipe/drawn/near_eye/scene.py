"""What a headset's scene camera sees: a room of a few flat shapes, and a card held up where the eyes look.

Flat colours without noise, so that the PNG is small and quickly written.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.drawn.face.view import View, head_rotation

NEAR = 100.0  # mm before the camera; what is nearer is cut off
ROOM = (2600.0, 1500.0, 3600.0)  # mm: half width, half height and distance of the wall ahead
CARD_MM, RINGS_MM = (90.0, 64.0), (26.0, 17.0, 8.0)
CARD, EDGE, RINGS = (236, 238, 240), (70, 64, 58), ((60, 50, 200), (240, 240, 240), (60, 50, 200))
SHIFT = 4  # fractional bits of the coordinates that cv2 draws at


@dataclass(frozen=True)
class Room:
    """Rectangles [n, 4, 3] mm in the room's frame (x right, y down, z ahead), far to near, and colours [n, 3] BGR."""

    corners: np.ndarray
    colours: np.ndarray


def build_room(rng: np.random.Generator) -> Room:
    """Walls, floor and ceiling, a window, a board, pictures, a shelf with books, and a table."""
    half_width, half_height, depth = ROOM
    wall = 150 + rng.uniform(-25, 60) + rng.uniform(-14, 14, 3)
    floor = np.array([70, 95, 125]) * rng.uniform(0.6, 1.3) + rng.uniform(-10, 10, 3)
    shapes = [
        (_upright(0, 0, 2 * half_width, 2 * half_height, depth), wall),
        (_level(half_height, half_width, depth), floor),
        (_level(-half_height, half_width, depth), wall * 1.12),
        (_side(-half_width, half_height, depth), wall * 0.86),
        (_side(half_width, half_height, depth), wall * 0.93),
    ]
    places = rng.permutation([-1850.0, -700.0, 550.0, 1750.0])
    shapes += _window(places[0], depth) + _board(places[1], depth, rng)
    shapes += _shelf(places[2], depth, rng) + _picture(places[3], depth, rng)
    shapes.append((_upright(rng.uniform(-500, 500), 1150, 1900, 90, 2300), floor * 0.7 + 20))
    corners, colours = zip(*shapes, strict=True)
    return Room(np.stack(corners), np.clip(np.round(np.stack(colours)), 0, 255).astype(int))


def draw_scene(room: Room, head: tuple[float, float], view: View, target: np.ndarray) -> np.ndarray:
    """The scene image u8 BGR [h, w, 3]. head: (pitch, yaw) of the head in the room, rad; `target` [3] in the head's
    frame: there the card is."""
    image = np.zeros((view.height, view.width, 3), np.uint8)
    turn = view.rotation @ head_rotation(*head) @ np.diag([-1.0, 1.0, -1.0])  # the room's z axis is the head's -z
    for corners, colour in zip(room.corners @ turn.T + view.translation, room.colours.tolist(), strict=True):
        _fill(image, corners, view, colour)
    _draw_card(image, view, view.to_camera(target))
    return image


def _draw_card(image: np.ndarray, view: View, place: np.ndarray) -> None:
    """A card with rings about `place` [3] (camera's frame), parallel to the image."""
    half = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [*CARD_MM, 0]
    stick = np.array([[-7, 64, 2], [7, 64, 2], [7, 900, 2], [-7, 900, 2]])
    _fill(image, place + stick, view, EDGE)
    _fill(image, place + 1.06 * half, view, EDGE)
    _fill(image, place + half, view, CARD)
    x, y = (view.matrix @ place)[:2] / place[2]
    middle = (round(x * 2**SHIFT), round(y * 2**SHIFT))
    for radius, colour in zip(RINGS_MM, RINGS, strict=True):
        pixels = max(1.2, radius * view.matrix[0, 0] / place[2])
        cv2.circle(image, middle, round(pixels * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT)


def _fill(image: np.ndarray, corners: np.ndarray, view: View, colour) -> None:
    """Fill a polygon [n, 3] mm in the camera's frame, cut at `NEAR`."""
    if corners[:, 2].min() < NEAR:
        corners = _cut(corners)
    if len(corners) >= 3:
        points = corners @ view.matrix.T
        pixels = np.clip(points[:, :2] / points[:, 2:], -30_000, 30_000)
        cv2.fillPoly(image, [np.round(pixels * 2**SHIFT).astype(np.int32)], colour, cv2.LINE_AA, SHIFT)


def _cut(corners: np.ndarray) -> np.ndarray:
    """What of a polygon lies beyond `NEAR`."""
    kept = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] - NEAR) * (end[2] - NEAR) < 0:
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
    return np.array(kept)


def _upright(x: float, y: float, width: float, height: float, z: float) -> np.ndarray:
    return np.array([x, y, z]) + np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [width / 2, height / 2, 0]


def _level(y: float, half_width: float, depth: float) -> np.ndarray:
    return np.array([[-half_width, y, -500], [half_width, y, -500], [half_width, y, depth], [-half_width, y, depth]])


def _side(x: float, half_height: float, depth: float) -> np.ndarray:
    y = half_height
    return np.array([[x, -y, -500], [x, -y, depth], [x, y, depth], [x, y, -500]])


def _window(x: float, z: float) -> list:
    frame, sky, tree = np.full(3, 225.0), np.array([240.0, 215.0, 180.0]), np.array([90.0, 150.0, 110.0])
    panes = []
    for side in (-1, 1):
        panes.append((_upright(x + side * 235, -350, 430, 1050, z), sky))
        panes.append((_upright(x + side * 235, 40, 430, 270, z), tree))
    return [(_upright(x, -350, 980, 1130, z), frame), *panes]


def _board(x: float, z: float, rng: np.random.Generator) -> list:
    shapes = [(_upright(x, -300, 1040, 760, z), np.full(3, 80.0)), (_upright(x, -300, 1000, 720, z), np.full(3, 242.0))]
    for row in range(6):
        width = rng.uniform(250, 820)
        colour = np.array([[150, 90, 40], [60, 60, 60], [50, 50, 180]])[rng.integers(3)].astype(float)
        shapes.append((_upright(x - 440 + width / 2, -560 + 100 * row, width, 22, z), colour))
    return shapes


def _picture(x: float, z: float, rng: np.random.Generator) -> list:
    shapes = [(_upright(x, -350, 640, 840, z), np.array([40.0, 50.0, 60.0]))]
    for _ in range(5):
        middle, size = rng.uniform((-120, -200), (120, 200)), rng.uniform(120, 300, 2)
        shapes.append((_upright(x + middle[0], -350 + middle[1], *size, z), rng.uniform(40, 230, 3)))
    return shapes


def _shelf(x: float, z: float, rng: np.random.Generator) -> list:
    wood = np.array([60.0, 95.0, 135.0])
    shapes = [(_upright(x, 100, 1000, 1900, z), wood * 0.55)]
    for level in range(4):
        bottom = -330 + 440 * level
        left = -470.0
        while left < 400:
            width, height = rng.uniform(35, 80), rng.uniform(230, 350)
            place = _upright(x + left + width / 2, bottom - height / 2, width - 6, height, z)
            shapes.append((place, rng.uniform(30, 210, 3)))
            left += width
        shapes.append((_upright(x, bottom + 15, 1000, 30, z), wood))
    return shapes
