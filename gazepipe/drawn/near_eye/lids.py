"""Eyelids before a headset's cameras: the opening between them, on a curved sheet, and lashes rooted on its edges.

Coordinates of the opening, mm: x along it, outwards, from the eyeball's centre; y down from the line of the canthi.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.drawn.face.eyes import CANTHUS_BELOW_CENTRE
from gazepipe.drawn.face.subject import Eyes
from gazepipe.drawn.face.view import View
from gazepipe.geometry import vector_to_angles

LID_THICKNESS = 0.6  # mm, lid's edge before the eyeball
LID_CURVATURE = 18.0  # mm, radius of the sheet; flatter than the eyeball, or cameras would not see the far canthus
CANTHI_SHIFT = 0.4  # mm, the opening's middle lies outwards of the eyeball's centre
LOWER_DROP = 0.9  # mm that the lower lid hangs below that of `eyes`, whose cameras are not below it
CREASE_ABOVE = 3.4  # mm above the upper edge, eye open and level
SOFT = 0.14  # mm, width of an edge
UPPER, LOWER = 0, 1
POINTS = 7  # of a lash


@dataclass(frozen=True)
class Lids:
    """One eye's lids in one frame. `outwards`: -1 or 1, the head's x per x of the opening; `upper` and `lower`: mm of
    the edges' middles above and below the canthi; `crease`: mm of the upper lid's fold above them."""

    eyes: Eyes
    outwards: float
    upper: float
    lower: float
    crease: float


@dataclass(frozen=True)
class Opening:
    """Fields f32 [h, w]: u is x over the half width; y in mm; to_upper and to_lower: mm inside the edges (negative
    outside); above_crease: mm; arch: height of the upper edge, 0 to 1; open: 1 where the eyeball shows."""

    u: np.ndarray
    y: np.ndarray
    to_upper: np.ndarray
    to_lower: np.ndarray
    above_crease: np.ndarray
    arch: np.ndarray
    open: np.ndarray


@dataclass(frozen=True)
class Lashes:
    """Lashes of one eye, [n] each. `lid`: UPPER or LOWER; `u`: place along the edge; `length` in mm; `curl`; `fan`:
    sideways lean at the tip."""

    lid: np.ndarray
    u: np.ndarray
    length: np.ndarray
    curl: np.ndarray
    fan: np.ndarray


def place_lids(eyes: Eyes, eye: int, axis: np.ndarray, openness: float) -> Lids:
    """Lids that follow the eye's optical `axis` [3]; `openness` 1 is relaxed, less is squinting."""
    pitch = float(vector_to_angles(axis)[0])
    radius = eyes.radius + LID_THICKNESS
    level = np.arcsin((eyes.upper + CANTHUS_BELOW_CENTRE) / radius)
    upper = openness * radius * np.sin(np.clip(level + eyes.upper_follow * pitch, -0.7, 1.0))
    turn = np.arcsin((eyes.lower - CANTHUS_BELOW_CENTRE) / radius) - eyes.lower_follow * pitch
    lower = (radius * np.sin(np.clip(turn, -0.2, 0.9)) + LOWER_DROP) * (0.5 + 0.5 * openness)
    upper = max(upper, 1.0 - lower)
    neutral = eyes.upper + CREASE_ABOVE
    crease = neutral + 0.35 * (upper - eyes.upper)
    return Lids(eyes, 1.0 if eye else -1.0, float(upper), float(lower), float(max(crease, upper + 0.8)))


def upper_arch(u: np.ndarray) -> np.ndarray:
    """Height of the upper edge, 0-1, highest a little nasally, at u in [-1, 1]."""
    return np.maximum(0, 1 - np.abs(u + 0.1 * (1 - u * u)) ** 2.3) ** 0.85


def lower_arch(u: np.ndarray) -> np.ndarray:
    """Depth of the lower edge, 0-1, deepest a little outwards."""
    return np.maximum(0, 1 - np.abs(u - 0.15 * (1 - u * u)) ** 2.2) ** 0.9


def on_sheet(lids: Lids, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points [..., 3] mm from the eyeball's centre, head's axes, of places (x, y) in the opening."""
    cosine, sine = np.cos(lids.eyes.tilt), np.sin(lids.eyes.tilt)
    x, y = x + CANTHI_SHIFT, y + CANTHUS_BELOW_CENTRE
    sideways, down = x * cosine + y * sine, y * cosine - x * sine
    depth = np.sqrt(np.maximum(LID_CURVATURE**2 - sideways**2 - down**2, 0))
    return np.stack([lids.outwards * sideways, down, _sheet_centre(lids.eyes) - depth], axis=-1)


def in_opening(lids: Lids, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (x, y) in the opening of points [3, ...] on the sheet."""
    cosine, sine = float(np.cos(lids.eyes.tilt)), float(np.sin(lids.eyes.tilt))
    sideways, down = points[0] * lids.outwards, points[1]
    return sideways * cosine - down * sine - CANTHI_SHIFT, sideways * sine + down * cosine - CANTHUS_BELOW_CENTRE


def edge(lids: Lids, lid: int, u: np.ndarray) -> np.ndarray:
    """Points [..., 3] of a lid's edge at u in [-1, 1]."""
    y = -lids.upper * upper_arch(u) if lid == UPPER else lids.lower * lower_arch(u)
    return on_sheet(lids, u * lids.eyes.half_width, y)


def opening(lids: Lids, origin: np.ndarray, rays: np.ndarray) -> Opening:
    """The opening as seen from `origin` [3] (mm from the eyeball's centre) along unit `rays` f32 [3, h, w]."""
    offset = origin - np.array([0, 0, _sheet_centre(lids.eyes)])
    along = sum(float(part) * field for part, field in zip(offset, rays, strict=True))
    clearance = along * along - float(offset @ offset - LID_CURVATURE**2)
    distance = -along - np.sqrt(np.maximum(clearance, 0))
    x, y = in_opening(lids, [float(start) + distance * field for start, field in zip(origin[:2], rays, strict=False)])
    u = np.clip(x / lids.eyes.half_width, -1, 1)
    arch = upper_arch(u)
    to_upper, to_lower = y + lids.upper * arch, lids.lower * lower_arch(u) - y
    opened = np.clip(to_upper / SOFT + 0.5, 0, 1) * np.clip(to_lower / SOFT + 0.5, 0, 1)
    opened *= (np.abs(x) < lids.eyes.half_width) & (clearance > 0)
    above_crease = -y - lids.crease * (0.25 + 0.75 * arch)
    return Opening(u, y, to_upper, to_lower, above_crease, arch, opened)


def paint_lids(skin: np.ndarray, field: Opening) -> np.ndarray:
    """Skin f32 [h, w] with the upper lid's fold, the shade below it, and the wet rims of both lids."""
    near = np.clip((1 - np.abs(field.u)) * 12, 0, 1)
    above = field.above_crease
    depth = 0.30 + 0.08 * np.sin(9 * field.u + 2) + 0.05 * np.sin(23 * field.u)
    fold = depth * np.exp(-(np.abs(above / 0.42) ** 1.5)) + 0.15 * np.exp(np.minimum(above, 0) / 1.3) * (above < 0)
    fold *= near * field.arch**0.5 * (field.to_upper < 0)
    root = 0.38 * np.exp(-((np.minimum(field.to_upper, 0) + 0.2) ** 2) / 0.4) * (field.to_upper < 0.2) * near
    below = -field.to_lower
    rim = 0.10 * np.exp(-(((below - 0.3) / 0.35) ** 2)) * near
    pouch = -0.20 * np.exp(-(((below - 1.4) / 0.6) ** 2)) * near
    return skin * (1 - fold) * (1 - root) * (1 + rim + pouch)


def build_lashes(eyes: Eyes, rng: np.random.Generator) -> Lashes:
    """Lashes of one eye in clumps that lean together; their number and length follow `eyes.lash`."""
    counts = (int(70 + 35 * min(eyes.lash, 1.6)), int(34 + 14 * min(eyes.lash, 1.6)))
    lid = np.repeat([UPPER, LOWER], counts)
    u = np.concatenate([np.linspace(-0.82, 0.95, count) for count in counts]) + rng.normal(0, 0.012, len(lid))
    clump = np.round(u * 14 + rng.normal(0, 0.15, len(u))) / 14
    longest = np.where(lid == UPPER, 8.2, 4.2) * eyes.lash**0.3
    length = longest * rng.uniform(0.6, 1.0, len(u)) * (0.72 + 0.28 * np.clip(u + 0.4, -1, 1))
    curl = np.where(lid == UPPER, rng.normal(0.85, 0.12), rng.normal(0.55, 0.1)) + rng.normal(0, 0.1, len(u))
    fan = 0.55 * u + 4.0 * (clump - u) + rng.normal(0, 0.07, len(u))
    return Lashes(lid, np.clip(u, -0.95, 0.97), length, curl, fan)


def lash_lines(lashes: Lashes, lids: Lids) -> np.ndarray:
    """Points [n, POINTS, 3] mm from the eyeball's centre along each lash: out of the lid's edge, curling away from the
    opening."""
    roots = np.where((lashes.lid == UPPER)[:, None], edge(lids, UPPER, lashes.u), edge(lids, LOWER, lashes.u))
    outwards = roots / np.linalg.norm(roots, axis=-1, keepdims=True)
    away = np.where((lashes.lid == UPPER)[:, None], [0.0, -1.0, 0.0], [0.0, 1.0, 0.0])
    away = away - (away * outwards).sum(axis=-1, keepdims=True) * outwards
    away /= np.linalg.norm(away, axis=-1, keepdims=True)
    sideways = np.array([lids.outwards, 0, 0]) - outwards * outwards[:, :1] * lids.outwards
    t = np.linspace(0, 1, POINTS)[None, :, None]
    droop = np.where(lashes.lid == UPPER, 0.22, 0.10)[:, None, None]
    bend = t * (0.85 * outwards[:, None] - droop * away[:, None])
    bend = bend + t**2 * (lashes.curl[:, None, None] * away[:, None] - 0.25 * outwards[:, None])
    bend = bend + t * lashes.fan[:, None, None] * sideways[:, None]
    return roots[:, None] + lashes.length[:, None, None] * bend


def draw_lashes(image: np.ndarray, lashes: Lashes, lids: Lids, centre: np.ndarray, view: View) -> None:
    """Draw the lashes of the eye at `centre` [3] into the linear image f32 [h, w], dark, tapering."""
    layer = np.zeros(image.shape, np.uint8)
    pixels = np.round(view.project(lash_lines(lashes, lids) + centre) * 16).astype(np.int32)
    millimetre = view.matrix[0, 0] / 50
    cv2.polylines(layer, list(pixels[:, 4:]), False, 120, 1, cv2.LINE_AA, 4)
    cv2.polylines(layer, list(pixels[:, 2:5]), False, 180, 1, cv2.LINE_AA, 4)
    cv2.polylines(layer, list(pixels[:, :3]), False, 225, 1, cv2.LINE_AA, 4)
    cv2.polylines(layer, list(pixels[:, :2]), False, 225, max(1, round(0.10 * millimetre)), cv2.LINE_AA, 4)
    cover = layer * np.float32(0.9 / 255)
    image += (np.float32(0.035) - image) * cover


def _sheet_centre(eyes: Eyes) -> float:
    """z of the sheet's centre, mm from the eyeball's."""
    return LID_CURVATURE - eyes.radius - LID_THICKNESS
