"""An eyeball in infrared light: sclera, cornea, iris and dark pupil seen through it, and the lamps' mirror images.

Coordinates are millimetres from the eyeball's centre along the head's axes; fields of vectors are f32 [3, h, w].
"""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.drawn.face.eyes import REFRACTIVE_INDEX, cornea_offset, iris_offset
from gazepipe.drawn.face.subject import Eyes
from gazepipe.drawn.face.view import dot
from gazepipe.drawn.near_eye.lids import Opening
from gazepipe.drawn.near_eye.skin import AMBIENT, lamp_light
from gazepipe.geometry import unit

PUPIL_LIGHT = np.float32(0.012)
PUPIL_SOFT, IRIS_SOFT = 0.05, 0.14  # mm
GLINT_SIGMA_MM = 0.11
GLINT_LIGHT = {"cornea": 5.0, "sclera": 0.5}
STEPS = 12  # of the search for mirror images; off by less than 0.00001 mm then


@dataclass(frozen=True)
class Tissue:
    """How much infrared light an eye's parts reflect."""

    iris: float
    sclera: float
    flesh: float


def draw_ball(
    eyes: Eyes,
    tissue: Tissue,
    axis: np.ndarray,
    pupil_radius: float,
    origin: np.ndarray,
    rays: np.ndarray,
    field: Opening,
    lamps: np.ndarray,
) -> np.ndarray:
    """Linear light f32 [h, w] of the eyeball along unit `rays` from the camera at `origin` [3], no glints.

    `axis` [3]: the optical axis; `lamps` [8, 3]; `pupil_radius` in mm, as it is behind the cornea.
    """
    globe, on_globe = _sphere_hit(origin, rays, np.zeros(3), eyes.radius)
    centre = cornea_offset(eyes) * axis
    cornea, clearance = _sphere_hit(origin, rays, centre, eyes.cornea_radius)
    on_cornea = (clearance > 0) & (dot(axis, cornea) > np.sqrt(eyes.radius**2 - eyes.iris_radius**2))
    radius, angle = _on_iris(eyes, axis, cornea, centre, rays)
    light = lamp_light(np.float32([0, 0, -eyes.radius]), lamps)
    lit = AMBIENT + np.maximum(dot(light, globe), 0) / np.float32(eyes.radius)

    beyond = np.clip(1 - on_globe / 14, 0, 1)  # the eyeball's edge and what lies past it: flesh of the corners
    cover = on_cornea / (1 + np.exp(np.clip((radius - eyes.iris_radius) / (0.5 * IRIS_SOFT), -30, 30)))
    flat = AMBIENT + max(0.0, float(light @ axis))
    colour = lit * _sclera(eyes, tissue, field)
    colour += (0.8 * tissue.flesh - colour) * beyond
    colour += (flat * _iris(eyes, tissue, radius, angle) - colour) * cover
    pupil = cover / (1 + np.exp(np.clip((radius - pupil_radius) / PUPIL_SOFT, -30, 30)))
    shade = 1 - 0.42 * np.exp(-np.maximum(field.to_upper, 0) / 0.9)
    shade -= 0.12 * np.exp(-np.maximum(field.to_lower, 0) / 0.6)
    tears = 0.16 * np.exp(-(((field.to_lower - 0.12) / 0.10) ** 2))
    colour = colour * shade + tears
    return colour + (PUPIL_LIGHT - colour) * pupil


def pupil_rim(eyes: Eyes, axis: np.ndarray, pupil_radius: float, count: int) -> np.ndarray:
    """Points [count, 3] mm of the pupil's edge, evenly around it, where it is: behind the cornea."""
    across, down = _iris_axes(axis)
    angle = 2 * np.pi * np.arange(count)[:, None] / count
    return iris_offset(eyes) * axis + pupil_radius * (np.cos(angle) * across + np.sin(angle) * down)


def mirror_points(origin: np.ndarray, lamps: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Points [n, 3] on a sphere where a camera at `origin` [3] sees `lamps` [n, 3]: the normal halves the angle."""
    normal = np.broadcast_to(unit(origin - centre), lamps.shape)
    for _ in range(STEPS):
        point = centre + radius * normal
        normal = unit(unit(lamps - point) + unit(origin - point))
    return centre + radius * normal


def glints(eyes: Eyes, axis: np.ndarray, origin: np.ndarray, lamps: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """(point [3], "cornea" or "sclera") of each lamp's mirror images that exist, whether or not a lid hides them."""
    limbus = np.sqrt(eyes.radius**2 - eyes.iris_radius**2)
    found = []
    for name, centre, radius in (
        ("cornea", cornea_offset(eyes) * axis, eyes.cornea_radius),
        ("sclera", np.zeros(3), eyes.radius),
    ):
        points = mirror_points(origin, lamps, centre, radius)
        keep = (points @ axis > limbus) == (name == "cornea")
        found += [(point, name) for point in points[keep]]
    return found


def draw_glint(layer: np.ndarray, x: float, y: float, sigma: float, light: float) -> None:
    """Add a round spot at (x, y) px to `layer` f32 [h, w]; parts beyond its edge are lost."""
    reach = int(np.ceil(4 * sigma))
    x0, y0 = max(0, round(x) - reach), max(0, round(y) - reach)
    window = layer[y0 : max(0, round(y) + reach + 1), x0 : max(0, round(x) + reach + 1)]
    if window.size:
        rows, columns = (np.arange(size, dtype=np.float32) for size in window.shape)
        profile_y = np.exp(-((rows + (y0 - y)) ** 2) / (2 * sigma * sigma))
        profile_x = np.exp(-((columns + (x0 - x)) ** 2) / (2 * sigma * sigma))
        window += np.float32(light) * np.outer(profile_y, profile_x)


def _sphere_hit(
    origin: np.ndarray, rays: np.ndarray, centre: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points [3, h, w] where unit rays meet a sphere, and clearance [h, w] > 0 where they do."""
    offset = origin - centre
    along = dot(offset, rays)
    clearance = along * along - float(offset @ offset - radius**2)
    distance = -along - np.sqrt(np.maximum(clearance, 0))
    return origin.astype(np.float32)[:, None, None] + distance * rays, clearance


def _iris_axes(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    across = unit(np.cross([0.0, 1.0, 0.0], axis))
    return across, np.cross(axis, across)


def _on_iris(
    eyes: Eyes, axis: np.ndarray, cornea: np.ndarray, centre: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Radius (mm) and angle, f32 [h, w], at which rays reach the iris's plane, bent by the cornea (Snell's law)."""
    normal = (cornea - centre.astype(np.float32)[:, None, None]) / np.float32(eyes.cornea_radius)
    ratio = 1 / REFRACTIVE_INDEX
    cosine = -(normal * rays).sum(axis=0)
    bend = ratio * cosine - np.sqrt(np.maximum(1 - ratio**2 * (1 - cosine**2), 0))
    refracted = ratio * rays + bend * normal
    forward = np.minimum(dot(axis, refracted), -1e-3)
    point = cornea + (iris_offset(eyes) - dot(axis, cornea)) / forward * refracted
    across, down = _iris_axes(axis)
    return cv2.cartToPolar(dot(across, point), dot(down, point))


def _sclera(eyes: Eyes, tissue: Tissue, field: Opening) -> np.ndarray:
    """Reflectance [h, w]: a little darker towards the corners, and the caruncle in the inner one."""
    corners = 1 - 0.28 * np.clip(np.abs(field.u) - 0.35, 0, 1)
    caruncle = 0.8 * np.exp(-(((field.u + 0.95) * eyes.half_width / 1.7) ** 2) - (field.y / 1.9) ** 2)
    return tissue.sclera * corners + (tissue.flesh - tissue.sclera) * caruncle


def _iris(eyes: Eyes, tissue: Tissue, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Reflectance [h, w] of the iris's fibres, its ruff and its darker rim."""
    share = radius / np.float32(eyes.iris_radius)
    rows, columns = eyes.iris_texture.shape
    texture = cv2.remap(
        eyes.iris_texture,
        angle * np.float32((columns - 1) / (2 * np.pi)),
        np.clip(share, 0, 1) * np.float32(rows - 1),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    ruff = 0.16 * np.exp(-(((share - 0.52) / 0.12) ** 2))
    rim = 0.35 / (1 + np.exp(np.clip((0.95 - share) / 0.035, -30, 30)))
    return tissue.iris * np.clip(1 + 0.17 * texture + ruff, 0.4, 1.8) * (1 - rim)
