"""A procedural head: a height field with its colours, and the numbers of its eyes, lids and glasses.

Head frame: x to the image's right, y down, z into the head, millimetres; the origin lies between the eyeballs' centres
in x and y. The height field holds H(x, y), the surface is z = -H. Everything is drawn from one generator.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

TEXEL = 0.6  # mm per height-field texel
HALF_WIDTH, TOP, BOTTOM = 96.0, 138.0, 138.0  # mm covered by the height field
SKULL_Y = -6.0  # mm, the skull's centre

SKIN = np.float32([[0.80, 0.56, 0.45], [0.74, 0.48, 0.36], [0.62, 0.38, 0.26], [0.46, 0.27, 0.17], [0.30, 0.16, 0.10]])
IRIS = np.float32(
    [
        [0.11, 0.06, 0.03],
        [0.16, 0.09, 0.04],
        [0.24, 0.15, 0.07],
        [0.20, 0.22, 0.10],
        [0.20, 0.29, 0.36],
        [0.30, 0.34, 0.36],
        [0.07, 0.04, 0.025],
    ]
)
HAIR = np.float32(
    [
        [0.02, 0.015, 0.012],
        [0.05, 0.03, 0.02],
        [0.12, 0.07, 0.035],
        [0.33, 0.21, 0.10],
        [0.25, 0.25, 0.25],
        [0.10, 0.035, 0.015],
    ]
)
IRIS_SHARE = {False: [0.15, 0.3, 0.12, 0.1, 0.18, 0.05, 0.1], True: [0.1, 0.4, 0.0, 0.0, 0.0, 0.0, 0.5]}
HAIR_SHARE = {False: [0.15, 0.3, 0.25, 0.14, 0.08, 0.08], True: [0.8, 0.2, 0.0, 0.0, 0.0, 0.0]}


@dataclass(frozen=True)
class Eyes:
    """Eyeballs and lids. `centres` [2, 3] mm, the image's left eye first; `kappa` [2, 2] rad, (nasal, up) per eye."""

    centres: np.ndarray
    radius: float
    iris_radius: float
    cornea_radius: float
    kappa: np.ndarray
    iris_rgb: np.ndarray
    iris_texture: np.ndarray  # [radius, angle], periodic in the angle
    sclera_rgb: np.ndarray
    half_width: float  # of the opening, mm
    upper: float  # mm above the eyeball's centre, gaze straight ahead
    lower: float  # mm below it
    tilt: float  # rad, the outer corner higher
    upper_follow: float  # lid rotation per rotation of the eye
    lower_follow: float
    lash: float
    lash_phase: float


@dataclass(frozen=True)
class Glasses:
    """A frame of two superellipses; lengths in mm."""

    half_width: float
    half_height: float
    thickness: float
    exponent: float
    rgb: np.ndarray
    lens: float  # strength of the lenses' reflection


@dataclass(frozen=True)
class Subject:
    """One drawn person.

    height: f32 [h, w] mm. albedo: f32 [h, w, 3], linear RGB. surface: f32 [h, w, 4], (dH/dx, dH/dy, ambient
    occlusion, gloss). skull: half axes in mm. landmarks: f64 [6, 3], the four eye corners from the image's left to its
    right, then the mouth's left and right corner, in the head frame.
    """

    height: np.ndarray
    albedo: np.ndarray
    surface: np.ndarray
    front: float  # mm, the largest height
    skull: tuple[float, float, float]
    chin: float  # mm below the origin
    eyes: Eyes
    glasses: Glasses | None
    landmarks: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    cloth: np.ndarray
    bald: bool
    long_hair: bool

    @property
    def face_centre(self) -> np.ndarray:
        """f64 [3] mm, head frame: mean of the two eyes' midpoints and the mouth's midpoint."""
        return self.landmarks.reshape(3, 2, 3).mean(axis=(0, 1))


@dataclass(frozen=True)
class _Traits:
    """What shape and paint share; lengths in mm."""

    eye_x: float
    nose_length: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    smile: float
    female: bool
    makeup: float
    dark: bool


def build_subject(rng: np.random.Generator, glasses: bool) -> Subject:
    """Draw a person from `rng`; about 0.06 s. Ranges are those of shared anatomy tables, clipped at 2.5 deviations."""
    traits, tone = _traits(rng)
    skull = (_normal(rng, 74, 4), _normal(rng, 119, 6), _normal(rng, 93, 5))
    skin = _mix(SKIN, tone)
    hair = HAIR[rng.choice(len(HAIR), p=HAIR_SHARE[traits.dark])]
    height = _head(rng, traits, skull)
    eyes = _eyes(rng, traits, height)
    height = _with_lids(height, eyes)
    bald = not traits.female and rng.random() < 0.12
    long_hair = traits.female and rng.random() < 0.75
    albedo = _skin(rng, traits, skin)
    albedo = _beard(rng, traits, albedo, hair)
    albedo = _mouth_and_nostrils(rng, traits, albedo, skin)
    albedo = _brows(rng, traits, albedo, hair)
    albedo, hair_mask = _hair(rng, albedo, hair, skull, bald, long_hair)
    cloth = rng.uniform(0.02, 0.5, 3).astype(np.float32)
    return Subject(
        height=height,
        albedo=np.clip(albedo, 0.004, 1).astype(np.float32),
        surface=_surface(height, hair_mask),
        front=float(height.max()),
        skull=skull,
        chin=SKULL_Y + skull[1],
        eyes=eyes,
        glasses=_glasses(rng) if glasses else None,
        landmarks=_landmarks(traits, eyes, height),
        skin=skin,
        hair=hair,
        cloth=cloth,
        bald=bald,
        long_hair=long_hair,
    )


def evenly(index: int, some: int, of: int) -> bool:
    """Whether `index` is among the `some` in every `of` that are spread evenly."""
    return (index + 1) * some // of > index * some // of


@lru_cache(maxsize=1)
def grid() -> tuple[np.ndarray, np.ndarray]:
    """f32 (x [1, w], y [h, 1]) of the height field's texels in mm; they broadcast."""
    x = np.arange(-HALF_WIDTH, HALF_WIDTH, TEXEL, dtype=np.float32)[None]
    y = np.arange(-TOP, BOTTOM, TEXEL, dtype=np.float32)[:, None]
    return x, y


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float, octaves: int) -> np.ndarray:
    """f32 noise of `shape`, about unit deviation, whose coarsest octave varies over `scale` texels."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(1.0, scale / 2**octave)
        coarse = rng.standard_normal((int(shape[0] / step) + 2, int(shape[1] / step) + 2), np.float32)
        total += 0.5**octave * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return total


def _normal(rng: np.random.Generator, mean: float, deviation: float) -> float:
    return float(mean + deviation * np.clip(rng.standard_normal(), -2.5, 2.5))


def _mix(palette: np.ndarray, position: float) -> np.ndarray:
    low = min(int(position), len(palette) - 2)
    return palette[low] + (palette[low + 1] - palette[low]) * np.float32(position - low)


def _bump(x0: float, y0: float, width: float, height: float, both_sides: bool = False) -> np.ndarray:
    """A Gaussian exp(-dx^2 - dy^2) on the grid; `both_sides` mirrors it at x = 0."""
    x, y = grid()
    x = np.abs(x) if both_sides else x
    return np.exp(-(((x - x0) / width) ** 2)) * np.exp(-(((y - y0) / height) ** 2))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _traits(rng: np.random.Generator) -> tuple[_Traits, float]:
    tone = rng.beta(1.2, 1.6) * (len(SKIN) - 1)
    female = bool(rng.random() < 0.5)
    nose_length = _normal(rng, 47, 2.0)
    traits = _Traits(
        eye_x=_normal(rng, 63, 3.2) / 2,
        nose_length=nose_length,
        nose_width=_normal(rng, 8.5, 1.2),
        mouth_y=_normal(rng, 69, 1.2),
        mouth_width=_normal(rng, 25, 2.2),
        upper_lip=_normal(rng, 5.5, 1.2),
        lower_lip=_normal(rng, 7.5, 1.3),
        smile=_normal(rng, 4.0, 1.8),
        female=female,
        makeup=max(0.0, _normal(rng, 0.4, 0.35)) if female else 0.0,
        dark=bool(tone > 1.8),
    )
    return traits, float(tone)


def _mouth_line(traits: _Traits) -> np.ndarray:
    """y of the line between the lips, bent up at the corners by the smile; [h, w]."""
    x, y = grid()
    fade = np.exp(-(((y - traits.mouth_y) / 25) ** 2))
    return traits.mouth_y - traits.smile * (x / traits.mouth_width) ** 2 * fade


def _head(rng: np.random.Generator, traits: _Traits, skull: tuple[float, float, float]) -> np.ndarray:
    """Height field without eyes: superellipsoid skull narrowing to the jaw, plus Gaussian features."""
    x, y = grid()

    def vary(deviation: float = 0.18) -> float:
        return _normal(rng, 1, deviation)

    half_width, half_height, depth = skull
    jaw = 1 - (1 - _normal(rng, 0.74, 0.07)) * np.clip((y - 15) / 95, 0, 1.2) ** 1.3
    vertical = np.abs((y - SKULL_Y) / half_height) ** np.where(y > SKULL_Y, 3.2, 2.7)
    inside = 1 - np.abs(x / (half_width * jaw)) ** 2.5 - vertical
    # Outside its outline the field drops sharply, so that rays pass beside the head.
    height = depth * np.maximum(0, inside) ** (1 / 2.1) - 25 * np.clip(-25 * inside, 0, 1)

    height -= 13 * vary() * _bump(traits.eye_x, 2, 19, 15, both_sides=True)
    height += 4.5 * vary(0.4) * (0.6 if traits.female else 1.2) * _bump(0, -24, 52, 9)
    height += 4 * vary(0.4) * _bump(44, 32, 18, 16, both_sides=True)
    height += _nose(traits, vary)
    height += _mouth(traits, vary)
    height -= 3 * _bump(0, traits.mouth_y + 15, 20, 6)
    height += 9 * vary(0.3) * _bump(0, traits.mouth_y + 27, 22, 14)
    return (height + _normal(rng, 0, 0.02) * x * np.exp(-((x / 60) ** 2))).astype(np.float32)


def _nose(traits: _Traits, vary) -> np.ndarray:
    x, y = grid()
    length, width = traits.nose_length, traits.nose_width
    ramp = np.clip((y + 14) / (length + 14), 0, 1)
    bridge = (8 * vary(0.25) + 15 * vary(0.2) * ramp) * np.exp(-((x / (width * (0.95 + 0.35 * ramp))) ** 2))
    nose = bridge * _sigmoid((y + 14) / 3.5) * _sigmoid((length - y) / 1.8)
    nose += 5.5 * vary() * _bump(0, length - 6, 9.5 * vary(0.1), 8)
    nose += 7 * vary() * _bump(width * 1.45, length - 4, 5.2, 6, both_sides=True)
    return nose - 3 * _bump(width * 0.75, length + 0.6, 2.6, 1.8, both_sides=True)


def _mouth(traits: _Traits, vary) -> np.ndarray:
    x, y = grid()
    line = _mouth_line(traits)
    width = np.clip(1 - (x / traits.mouth_width) ** 2, 0, 1)
    upper, lower = traits.upper_lip * 0.55, traits.lower_lip * 0.5
    mouth = 3.0 * width * np.exp(-(((y - line + upper) / upper) ** 2))
    mouth += 3.6 * width * np.exp(-(((y - line - lower) / lower) ** 2))
    mouth -= 2.2 * width * np.exp(-(((y - line) / 1.3) ** 2))
    mouth += 6.5 * vary() * _bump(0, traits.mouth_y, 30, 17)
    return mouth - 1.6 * _bump(0, (traits.nose_length + traits.mouth_y) / 2 - 1, 3.2, 6)


def _eyes(rng: np.random.Generator, traits: _Traits, height: np.ndarray) -> Eyes:
    radius = _normal(rng, 12.0, 0.35)
    level = height_at(height, traits.eye_x, 0.0)
    depth = -(level - radius + _normal(rng, 4.2, 0.9))  # the eyeball's front stands before its socket
    kappa = [_normal(rng, 5.0, 1.2), _normal(rng, 1.5, 1.2)]
    sides = [[_normal(rng, 0, 0.5), _normal(rng, 0, 0.3)] for _ in range(2)]
    iris = IRIS[rng.choice(len(IRIS), p=IRIS_SHARE[traits.dark])]
    return Eyes(
        centres=np.array([[-traits.eye_x, 0.0, depth], [traits.eye_x, 0.0, depth]]),
        radius=radius,
        iris_radius=_normal(rng, 5.9, 0.2),
        cornea_radius=7.8,
        kappa=np.radians(np.add(kappa, sides)),
        iris_rgb=iris * np.float32(_normal(rng, 1, 0.15)),
        iris_texture=_iris_texture(rng),
        sclera_rgb=np.float32([0.74, 0.70, 0.66]) * np.float32(_normal(rng, 1, 0.07)),
        half_width=_normal(rng, 14.6, 0.8),
        upper=_normal(rng, 4.9, 0.25),
        lower=_normal(rng, 5.0, 0.2),
        tilt=float(np.radians(_normal(rng, 4, 2))),
        upper_follow=_normal(rng, 0.88, 0.04),
        lower_follow=_normal(rng, 0.4, 0.05),
        lash=_normal(rng, 1, 0.25) + 0.5 * traits.makeup,
        lash_phase=float(rng.uniform(0, 6)),
    )


def _iris_texture(rng: np.random.Generator) -> np.ndarray:
    """f32 [64, 257] over (radius, angle); the last column repeats the first, so that interpolation wraps."""
    rays, rings = 64, 12
    noise = 0.8 * rng.standard_normal((1, rays)) + 0.7 * rng.standard_normal((rings, rays))
    wrapped = np.concatenate([noise, noise[:, :4]], axis=1).astype(np.float32)  # periodic before interpolation
    fine = cv2.resize(wrapped, (4 * wrapped.shape[1], 64), interpolation=cv2.INTER_LINEAR)[:, 8 : 8 + 256]
    return np.concatenate([fine, fine[:, :1]], axis=1)


def height_at(height: np.ndarray, x: float, y: float) -> float:
    """Height in mm at the texel nearest to (x, y)."""
    return float(height[round((y + TOP) / TEXEL), round((x + HALF_WIDTH) / TEXEL)])


def _with_lids(height: np.ndarray, eyes: Eyes) -> np.ndarray:
    """Join the closed lids, spheres just outside the eyeballs, by a smooth maximum."""
    x, y = grid()
    _, _, depth = eyes.centres[1]
    squared = (np.abs(x) - eyes.centres[1, 0]) ** 2 + y**2
    lid_radius = eyes.radius + 0.9
    lid = np.where(squared < lid_radius**2, np.sqrt(np.maximum(lid_radius**2 - squared, 0)) - depth, -99)
    soft = 1.2
    joined = soft * np.logaddexp(height / soft, lid / soft)
    return cv2.GaussianBlur(joined.astype(np.float32), (0, 0), 0.8 / TEXEL)


def _surface(height: np.ndarray, hair_mask: np.ndarray) -> np.ndarray:
    slope_y, slope_x = np.gradient(height, TEXEL)
    hollow = np.maximum(cv2.blur(cv2.blur(height, (25, 25)), (25, 25)) - height, 0)
    occlusion = np.clip(1 - 0.072 * hollow, 0.45, 1)
    return np.dstack([slope_x, slope_y, occlusion, 1 - 0.9 * hair_mask]).astype(np.float32)


def _landmarks(traits: _Traits, eyes: Eyes, height: np.ndarray) -> np.ndarray:
    corners = []
    outer, inner = traits.eye_x + 0.95 * eyes.half_width, traits.eye_x - 0.95 * eyes.half_width
    rise = 0.95 * eyes.half_width * np.sin(eyes.tilt)
    mouth = 0.95 * traits.mouth_width
    points = [(-outer, 1 - rise), (-inner, 1 + rise), (inner, 1 + rise), (outer, 1 - rise)]
    points += [(side * mouth, traits.mouth_y - 0.9 * traits.smile) for side in (-1, 1)]
    for x, y in points:
        corners.append((x, y, -0.5 * (height_at(height, x, y) + height_at(height, -x, y))))
    return np.array(corners)


def _skin(rng: np.random.Generator, traits: _Traits, skin: np.ndarray) -> np.ndarray:
    x, y = grid()
    shape = (y.size, x.size)
    mottle = 1 + 0.05 * smooth_noise(rng, shape, 50, 4) + 0.035 * smooth_noise(rng, shape, 7, 3)
    red = 0.5 * _bump(40, 33, 20, 18, both_sides=True) + 0.55 * _bump(0, traits.nose_length - 4, 13, 12)
    red *= 0.5 if traits.dark else 1.3
    shade = 1 - max(0.0, _normal(rng, 0.12, 0.1)) * _bump(traits.eye_x - 2, 13, 15, 6, both_sides=True)
    for _ in range(rng.integers(0, 10)):
        size = rng.uniform(0.5, 1.8)
        shade *= 1 - 0.5 * _bump(rng.uniform(-60, 60), rng.uniform(-60, 80), size, size)
    fold = np.exp(-(((np.abs(x) - traits.nose_width - 7 - 0.38 * (y - traits.nose_length)) / 2.2) ** 2))
    fold *= _sigmoid((y - traits.nose_length + 6) / 2) * _sigmoid((traits.mouth_y - 4 - y) / 2)
    shade *= 1 - 0.25 * _normal(rng, 0.8, 0.3) * fold
    light = mottle * shade
    albedo = np.dstack([light * skin[0], light * (1 - 0.20 * red) * skin[1], light * (1 - 0.18 * red) * skin[2]])
    lid_colour = 0.5 * traits.makeup * _bump(traits.eye_x, -7, 13, 5, both_sides=True)
    return _over(albedo, lid_colour, np.float32([0.15, 0.08, 0.08]))


def _over(albedo: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """`colour` laid over `albedo` where `mask` [h, w] says so."""
    return albedo + (colour - albedo) * mask[..., None].astype(np.float32)


def _beard(rng: np.random.Generator, traits: _Traits, albedo: np.ndarray, hair: np.ndarray) -> np.ndarray:
    strength = 0.0 if traits.female else max(0.0, _normal(rng, 0.25, 0.35))
    if strength < 0.05:
        return albedo
    x, y = grid()
    below_nose = np.clip((y - traits.nose_length - 6 + 0.012 * x**2) / 12, 0, 1)
    lips = np.exp(-(((y - traits.mouth_y) / (traits.lower_lip + 3)) ** 2) - (x / traits.mouth_width) ** 2)
    jaw = np.clip((np.abs(x) + 1.4 * y - 78) / 45 + _sigmoid((30 - np.abs(x)) / 3), 0, 1)
    grain = 1.4 * strength + 0.15 * smooth_noise(rng, albedo.shape[:2], 4, 3)
    mask = np.clip(below_nose * np.clip(1 - 1.6 * lips, 0, 1) * jaw * grain, 0, 0.9)
    return _over(albedo, mask, 1.2 * hair)


def _mouth_and_nostrils(rng: np.random.Generator, traits: _Traits, albedo: np.ndarray, skin: np.ndarray) -> np.ndarray:
    x, y = grid()
    line = _mouth_line(traits)
    width = np.clip(1 - (x / traits.mouth_width) ** 2, 0, 1)
    bow = 1 - 0.25 * np.exp(-((x / 4) ** 2))
    lips = _sigmoid((y - line + traits.upper_lip * bow * width**0.7) / 0.5)
    lips *= _sigmoid((line + traits.lower_lip * width**0.6 - y) / 0.6) * (width > 0)
    tint = skin * np.float32([1.0, 0.62, 0.62]) * (1 - 0.25 * traits.makeup)
    tint = tint + 0.35 * traits.makeup * np.float32([0.5, 0.05, 0.08])
    albedo = _over(albedo, 0.85 * lips, tint)
    gap = np.exp(-(((y - line - 0.5 * np.cos(x / 5)) / 0.8) ** 2)) * _sigmoid((traits.mouth_width - np.abs(x)) / 0.8)
    nostrils = _bump(traits.nose_width * 0.75, traits.nose_length + 1.2, 2.8, 1.7, both_sides=True)
    return albedo * ((1 - 0.75 * gap) * (1 - 0.8 * nostrils))[..., None].astype(np.float32)


def _brows(rng: np.random.Generator, traits: _Traits, albedo: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Hundreds of short strokes along an arch over each eye."""
    height, arch, tilt = _normal(rng, -17.5, 2.2), _normal(rng, 3.5, 1.5), _normal(rng, 0, 0.07)
    thickness = _normal(rng, 3.6, 1.0) * (0.75 if traits.female else 1.15)
    count = int(500 * _normal(rng, 1, 0.25))
    along = rng.beta(1.1, 1.1, (2, count))
    x = 10 + 40 * along
    y = height - 1.2 * arch * np.sin(np.pi * np.minimum(1.05 * along, 1)) + tilt * (x - 30)
    y += 6 * np.maximum(0, along - 0.7) + rng.normal(0, 0.45, along.shape) * thickness * (1 - 0.75 * along**2)
    length, angle = rng.uniform(3, 6, along.shape), -1.1 + 1.3 * along + rng.normal(0, 0.15, along.shape)
    side = np.array([[-1.0], [1.0]])
    starts = np.stack([side * x, y], axis=-1)
    ends = starts + np.stack([side * 0.8 * length * np.cos(angle), length * np.sin(angle)], axis=-1)
    pixels = (np.stack([starts, ends], axis=-2) + np.array([HALF_WIDTH, TOP])) / TEXEL
    canvas = np.zeros(albedo.shape[:2], np.uint8)
    strokes = np.round(pixels.reshape(-1, 2, 2) * 8).astype(np.int32)
    cv2.polylines(canvas, list(strokes), False, 255, 1, cv2.LINE_AA, 3)
    mask = np.clip(cv2.GaussianBlur(canvas, (0, 0), 0.8) / np.float32(255) * 1.3, 0, 1)
    return _over(albedo, mask * np.clip(_normal(rng, 0.85, 0.12), 0.3, 1), 1.3 * hair)


def _hair(
    rng: np.random.Generator,
    albedo: np.ndarray,
    hair: np.ndarray,
    skull: tuple[float, float, float],
    bald: bool,
    long_hair: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Hair over the forehead and the sides. Noise is laid out along the surface, or the sides would look smeared."""
    x, y = grid()
    line, bend, side_x = _normal(rng, -66, 7), _normal(rng, 1, 0.3), _normal(rng, 63, 3.5)
    if bald:
        return albedo, np.zeros(albedo.shape[:2], np.float32)
    columns = _arc_columns(skull)
    shape = (y.size, int(columns.max()) + 1)
    edge = smooth_noise(rng, shape, 22, 4)[:, columns]
    strands = cv2.blur(smooth_noise(rng, shape, 5, 3), (1, 21))[:, columns]
    top = _sigmoid((line + 0.009 * bend * x**2 + 3.5 * edge - y) / 1.5)
    recede = 0.0 if long_hair else np.clip(0.5 * (y - 5), -3, 60)
    sides = _sigmoid((np.abs(x) - side_x - recede + 1.5 * edge) / 0.9)
    mask = np.maximum(top, sides * (1.0 if long_hair else _sigmoid((40 - y) / 2)))
    colour = hair * np.clip(1 + 0.6 * strands, 0.3, 2.0)[..., None]
    return _over(albedo, mask, colour), mask


def _arc_columns(skull: tuple[float, float, float]) -> np.ndarray:
    """For each texel column its distance along the skull's surface, in texels, as an index that starts at 0."""
    x, _ = grid()
    half_width, _, depth = skull
    profile = depth * np.maximum(0, 1 - np.abs(x[0] / half_width) ** 2.5) ** (1 / 2.1)
    steps = np.hypot(TEXEL, np.minimum(np.abs(np.gradient(profile)), 6.0))
    return np.round((np.cumsum(steps) - steps[0]) / TEXEL).astype(int)


def _glasses(rng: np.random.Generator) -> Glasses:
    return Glasses(
        half_width=float(rng.uniform(23, 27)),
        half_height=float(rng.uniform(16, 21)),
        thickness=float(rng.uniform(0.8, 1.8)),
        exponent=float(rng.uniform(2, 4)),
        rgb=(np.float32(rng.uniform(0.01, 0.1)) * rng.uniform(0.5, 1.5, 3)).astype(np.float32),
        lens=float(rng.uniform(0.01, 0.05)),
    )
