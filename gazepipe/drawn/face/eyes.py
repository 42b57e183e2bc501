"""Ray-traced eyes: eyeball, cornea, iris and pupil seen through it, mirrored lights, lids that follow the gaze.

Everything is in the head's frame and relative to the eyeball's centre, millimetres; fields of vectors are f32
[3, h, w]. Eye model: eyeball 12 mm, cornea 7.8 mm, refractive index 1.3375; optical axis = visual axis - kappa.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.drawn.face.style import Light
from gazepipe.drawn.face.subject import Eyes, Subject
from gazepipe.drawn.face.view import Box, View, corners, dot, normalised
from gazepipe.geometry import angles_to_vector, unit, vector_to_angles

REFRACTIVE_INDEX = 1.3375
IRIS_BEHIND_LIMBUS = 0.45  # mm
CANTHUS_BELOW_CENTRE = 1.0  # mm
LID_CURVATURE = 15.5  # mm, radius of the sheet that holds the opening: reaches the corners, beyond the eyeball
FLESH = np.float32([0.60, 0.36, 0.31])


@dataclass(frozen=True)
class _Opening:
    """Where the lids part; all [h, w]. x: along the opening, outwards; u: x over the half width; y: down from the
    canthi; to_upper, to_lower: mm inside the edges (negative outside); arch: height of the upper lid, 0 to 1."""

    x: np.ndarray
    u: np.ndarray
    y: np.ndarray
    to_upper: np.ndarray
    to_lower: np.ndarray
    arch: np.ndarray
    open: np.ndarray


def optical_axes(eyes: Eyes, target: np.ndarray) -> np.ndarray:
    """Optical axes [2, 3], unit, of eyes whose visual axes meet at `target` [3] mm in the head's frame.

    The visual axis lies nasally and above the optical one by kappa; the image's left eye has its nose to the image's
    right, where yaw is negative.
    """
    angles = vector_to_angles(target - eyes.centres)
    outwards = np.array([1.0, -1.0])
    return angles_to_vector(
        np.stack([angles[:, 0] - eyes.kappa[:, 1], angles[:, 1] + outwards * eyes.kappa[:, 0]], axis=-1)
    )


def cornea_offset(eyes: Eyes) -> float:
    """Distance from the eyeball's centre to the cornea's, mm."""
    return float(np.sqrt(eyes.radius**2 - eyes.iris_radius**2) - np.sqrt(eyes.cornea_radius**2 - eyes.iris_radius**2))


def iris_offset(eyes: Eyes) -> float:
    """Distance from the eyeball's centre to the plane of iris and pupil, mm."""
    return float(np.sqrt(eyes.radius**2 - eyes.iris_radius**2)) - IRIS_BEHIND_LIMBUS


def draw_eyes(
    patch: np.ndarray, depth: np.ndarray, box: Box, subject: Subject, view: View, target: np.ndarray, light: Light
) -> None:
    """Draw both eyes into `patch`, the linear RGB f32 [h, w, 3] of `box`, where the head does not hide them.

    depth: f32 [h, w], z of the head's surface in the head's frame. `target` and `light` are in the head's frame.
    """
    for side, axis in enumerate(optical_axes(subject.eyes, target)):
        around = corners((-17.5, -11, -0.6 * subject.eyes.radius), (17.5, 8, -0.6 * subject.eyes.radius))
        roi = view.bounds(around + subject.eyes.centres[side], margin=1).inside(box)
        if roi.width < 3 or roi.height < 3:
            continue
        inside = roi.relative(box).slices
        patch[inside] = _draw_eye(patch[inside], depth[inside], roi, subject, view, side, axis, light)


def _draw_eye(
    base: np.ndarray,
    depth: np.ndarray,
    roi: Box,
    subject: Subject,
    view: View,
    side: int,
    axis: np.ndarray,
    light: Light,
) -> np.ndarray:
    eyes = subject.eyes
    oversampling = 2 if view.pixels_per_mm < 3 else 1
    size = (roi.width * oversampling, roi.height * oversampling)
    rays = normalised(view.rays(roi, *size))
    origin = view.origin - eyes.centres[side]
    opening, surface_z = _opening(eyes, side, axis, origin, rays)
    skin = cv2.resize(base, size, interpolation=cv2.INTER_LINEAR)
    ahead = cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR) - (surface_z + float(eyes.centres[side, 2]))
    visible = np.clip((ahead + 3.5) / 1.5, 0, 1)
    ball = _eyeball(subject, axis, origin, rays, opening, light)
    drawn = _lids(skin, eyes, opening)
    drawn += (ball - drawn) * opening.open[..., None]
    drawn += (0.25 * subject.hair - drawn) * _lash_line(eyes, opening)[..., None]
    drawn = skin + (drawn - skin) * visible[..., None]
    return cv2.resize(drawn, (roi.width, roi.height), interpolation=cv2.INTER_AREA)


def _sphere_hit(origin: np.ndarray, rays: np.ndarray, centre: np.ndarray, radius: float) -> tuple[np.ndarray, ...]:
    """(distance along unit rays to the sphere, clearance) [h, w]; clearance > 0 where the ray meets it, mm^2."""
    offset = origin - centre
    along = dot(offset, rays)
    clearance = along * along - float(offset @ offset - radius**2)
    return -along - np.sqrt(np.maximum(clearance, 0)), clearance


def _points(origin: np.ndarray, rays: np.ndarray, distance: np.ndarray) -> np.ndarray:
    return origin.astype(np.float32)[:, None, None] + distance * rays


def _opening(
    eyes: Eyes, side: int, axis: np.ndarray, origin: np.ndarray, rays: np.ndarray
) -> tuple[_Opening, np.ndarray]:
    """The opening between the lids, on a curved sheet just before the eyeball, and that sheet's z."""
    lid_radius = eyes.radius + 0.6
    sheet_centre = np.array([0.0, 0.0, LID_CURVATURE - lid_radius])
    distance, clearance = _sphere_hit(origin, rays, sheet_centre, LID_CURVATURE)
    points = _points(origin, rays, distance)
    outwards = points[0] * (-1.0 if side == 0 else 1.0)
    cosine, sine = float(np.cos(eyes.tilt)), float(np.sin(eyes.tilt))
    x = outwards * cosine - points[1] * sine - 0.4
    y = outwards * sine + points[1] * cosine - CANTHUS_BELOW_CENTRE
    u = np.clip(x / eyes.half_width, -1, 1)

    upper, lower = _lid_heights(eyes, float(vector_to_angles(axis)[0]))
    flat = 1 - u * u
    arch = np.maximum(0, 1 - np.abs(u + 0.1 * flat) ** 2.3) ** 0.85
    hammock = np.maximum(0, 1 - np.abs(u - 0.15 * flat) ** 2.2) ** 0.9
    to_upper, to_lower = y + upper * arch, lower * hammock - y
    soft = 0.18
    opened = np.clip(to_upper / soft + 0.5, 0, 1) * np.clip(to_lower / soft + 0.5, 0, 1)
    opened *= (np.abs(x) < eyes.half_width) & (clearance > 0)
    return _Opening(x, u, y, to_upper, to_lower, arch, opened), points[2]


def _lid_heights(eyes: Eyes, pitch: float) -> tuple[float, float]:
    """Heights (mm above and below the canthi) of the lids' edges: lids turn about the eye by a share of its pitch."""
    lid_radius = eyes.radius + 0.6
    turn_up = np.arcsin((eyes.upper + CANTHUS_BELOW_CENTRE) / lid_radius) + eyes.upper_follow * pitch
    turn_down = np.arcsin((eyes.lower - CANTHUS_BELOW_CENTRE) / lid_radius) - eyes.lower_follow * pitch
    lower = lid_radius * np.sin(np.clip(turn_down, -0.2, 0.9))
    upper = lid_radius * np.sin(np.clip(turn_up, -0.7, 1.0))
    return float(max(upper, 0.3 - lower)), float(lower)


def _lids(skin: np.ndarray, eyes: Eyes, opening: _Opening) -> np.ndarray:
    """Skin [h, w, 3] with the upper lid's crease, the lower lid's wet rim and the lashes."""
    near = np.abs(opening.x) < 1.06 * eyes.half_width
    above = -opening.to_upper - 2.6 - 1.2 * opening.arch
    crease = 0.45 * np.exp(-((above / 0.55) ** 2)) * (np.abs(opening.u) < 0.98) * opening.arch**0.4
    outside = np.maximum(-opening.to_lower, 0)
    rim = 0.35 * np.exp(-outside / 0.5) * (opening.to_lower <= 0) * near * (1 - np.abs(opening.u)) ** 0.3
    fan = np.sin(5.0 * opening.x * (1 - 0.06 * opening.to_upper) + eyes.lash_phase + 0.8 * np.sin(1.7 * opening.x))
    lashes = np.clip(2 * fan - 0.6, 0, 1) * np.exp(np.minimum(opening.to_upper, 0) / (1.6 * eyes.lash))
    lashes *= (opening.to_upper < 0.3) * near * np.sqrt(opening.arch) * min(0.75, 0.55 * eyes.lash)
    drawn = skin * ((1 - crease) * (1 - 0.85 * lashes))[..., None]
    return drawn * (1 - rim[..., None] * np.float32([0.1, 0.5, 0.45]))


def _lash_line(eyes: Eyes, opening: _Opening) -> np.ndarray:
    width = 0.75 * min(eyes.lash, 1.4)
    line = np.exp(-(((opening.to_upper + 0.25) / width) ** 2)) * opening.arch**0.3 * min(1.0, 0.8 * eyes.lash)
    return line * (np.abs(opening.x) < 1.06 * eyes.half_width)


def _eyeball(
    subject: Subject, axis: np.ndarray, origin: np.ndarray, rays: np.ndarray, opening: _Opening, light: Light
) -> np.ndarray:
    """Colour f32 [h, w, 3] of what shows between the lids."""
    eyes = subject.eyes
    distance, clearance = _sphere_hit(origin, rays, np.zeros(3), eyes.radius)
    globe = _points(origin, rays, distance)
    cornea_centre = cornea_offset(eyes) * axis
    to_cornea, cornea_clearance = _sphere_hit(origin, rays, cornea_centre, eyes.cornea_radius)
    cornea = _points(origin, rays, to_cornea)
    height = dot(axis, cornea)
    on_cornea = (cornea_clearance > 0) & (height > iris_offset(eyes) + IRIS_BEHIND_LIMBUS)
    cornea_normal = (cornea - cornea_centre.astype(np.float32)[:, None, None]) / eyes.cornea_radius
    normal = np.where(on_cornea, cornea_normal, globe / eyes.radius)

    irradiance = _irradiance(normal, light)
    iris, iris_edge = _iris(eyes, axis, cornea, height, cornea_normal, rays, light)
    colour = _sclera(eyes, axis, globe, opening, iris_edge * on_cornea)
    colour += (1.05 * iris - colour) * (iris_edge * on_cornea)[..., None]
    colour *= irradiance
    lid_shadow = 1 - 0.62 * np.exp(-np.maximum(opening.to_upper, 0) / 1.5)
    lid_shadow -= 0.15 * np.exp(-np.maximum(opening.to_lower, 0) / 0.8)
    colour *= np.clip(lid_shadow, 0.1, 1)[..., None]
    flesh = 0.9 * FLESH * subject.skin / subject.skin[0]
    caruncle = 0.7 * np.exp(-(((opening.x + 0.93 * eyes.half_width) / 1.6) ** 2) - (opening.y / 1.7) ** 2)
    corner = np.clip(1 - clearance / 8, 0, 1)  # beyond the eyeball's edge
    colour += (flesh * irradiance - colour) * caruncle[..., None]
    colour += (0.4 * (flesh + eyes.sclera_rgb) * irradiance - colour) * corner[..., None]
    shining = np.clip(opening.to_upper / 1.2, 0, 1) * (1 - np.maximum(caruncle, corner))
    return colour + _mirrored(rays, normal, on_cornea, light) * shining[..., None]


def _irradiance(normal: np.ndarray, light: Light) -> np.ndarray:
    up = (0.5 - 0.5 * normal[1])[..., None]
    key = np.maximum(0, dot(light.key, normal))[..., None]
    return light.above_rgb * up + light.below_rgb * (1 - up) + light.key_rgb * (0.28 + 0.52 * key)


def _sclera(eyes: Eyes, axis: np.ndarray, globe: np.ndarray, opening: _Opening, iris: np.ndarray) -> np.ndarray:
    """White of the eye, pink towards the corners, dark along the limbus."""
    pink = np.clip(0.5 * (np.abs(opening.u) - 0.35), 0, 0.4)
    radial = np.sqrt(np.maximum((globe * globe).sum(axis=0) - dot(axis, globe) ** 2, 0))
    facing = dot(axis, globe) > 0
    limbus = facing / (1 + np.exp(np.clip((radial - eyes.iris_radius - 0.1) / 0.28, -30, 30)))
    shade = (1 - 0.5 * limbus * (1 - iris))[..., None]
    return eyes.sclera_rgb * shade * (1 - pink[..., None] * np.float32([0.05, 0.35, 0.35]))


def _iris(
    eyes: Eyes,
    axis: np.ndarray,
    cornea: np.ndarray,
    height: np.ndarray,
    normal: np.ndarray,
    rays: np.ndarray,
    light: Light,
) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance [h, w, 3] of iris and pupil seen through the cornea (Snell's law), and the iris's coverage [h, w]."""
    ratio = 1 / REFRACTIVE_INDEX
    cosine = -(normal * rays).sum(axis=0)
    bend = ratio * cosine - np.sqrt(np.maximum(1 - ratio**2 * (1 - cosine**2), 0))
    refracted = ratio * rays + bend * normal
    forward = np.minimum(dot(axis, refracted), -1e-3)
    on_iris = cornea + (iris_offset(eyes) - height) / forward * refracted

    e1 = unit(np.cross([0.0, 1.0, 0.0], axis))
    e2 = np.cross(axis, e1)
    radius, angle = cv2.cartToPolar(dot(e1, on_iris), dot(e2, on_iris))
    radius /= eyes.iris_radius
    rows, columns = eyes.iris_texture.shape
    texture = cv2.remap(
        eyes.iris_texture,
        angle * ((columns - 1) / (2 * np.pi)),
        np.clip(radius, 0, 1) * (rows - 1),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    pupil_radius = light.pupil_radius / eyes.iris_radius
    collar = 0.35 * np.exp(-(((radius - pupil_radius - 0.12) / 0.1) ** 2))
    level = np.clip(1 + 0.28 * texture + collar, 0.3, 2) * (1 - 0.7 * _step(radius, 0.93, 0.035))
    # The cornea focuses the key light on the iris's far side.
    along = (dot(e1, on_iris) * float(light.key @ e1) + dot(e2, on_iris) * float(light.key @ e2)) / eyes.iris_radius
    level *= 1 + 0.8 * np.clip(-along, 0, 1)
    level *= _step(radius, pupil_radius, 0.03)
    return eyes.iris_rgb * level[..., None] + np.float32(0.004), 1 - _step(radius, 1.0, 0.03)


def _step(x: np.ndarray, at: float, softness: float) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip((at - x) / softness, -30, 30)))


def _mirrored(rays: np.ndarray, normal: np.ndarray, on_cornea: np.ndarray, light: Light) -> np.ndarray:
    """Lights mirrored by cornea (all of it) and sclera (a quarter)."""
    mirror = rays - 2 * (rays * normal).sum(axis=0) * normal
    strength = np.where(on_cornea, np.float32(0.9), np.float32(0.225))
    total = np.zeros((*strength.shape, 3), np.float32)
    for glint in light.glints:
        lobe = np.exp(np.minimum(dot(glint.direction, mirror) - 1, 0) * glint.sharpness)
        total += (strength * lobe)[..., None] * glint.rgb
    return total
