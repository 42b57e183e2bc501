"""Light and camera: the two looks. `lab` is Columbia's studio, `wild` a laptop's camera anywhere.

Colours are linear RGB; directions point towards the light in the camera frame (x right, y down, z away).
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from gazepipe.geometry import unit


@dataclass(frozen=True)
class Glint:
    """A light that the eyes mirror: direction [3], colour [3], exponent of its lobe (larger is smaller)."""

    direction: np.ndarray
    rgb: np.ndarray
    sharpness: float


@dataclass(frozen=True)
class Light:
    """What `render` needs of a style. `background` [h, w, 3] is stretched behind the head."""

    key: np.ndarray
    key_rgb: np.ndarray
    above_rgb: np.ndarray
    below_rgb: np.ndarray
    shadow: float
    gloss: float
    pupil_radius: float
    background: np.ndarray
    glints: tuple[Glint, ...]

    def turned(self, rotation: np.ndarray) -> "Light":
        """The same light with its directions multiplied by `rotation` [3, 3]."""
        glints = tuple(replace(glint, direction=rotation @ glint.direction) for glint in self.glints)
        return replace(self, key=rotation @ self.key, glints=glints)


@dataclass(frozen=True)
class Photometry:
    """From linear light to bytes. `blur`: Gaussian sigma, px; `noise`: sigma, grey levels; `jpeg`: quality or None."""

    blur: float
    gain: np.ndarray  # [3], exposure times white balance
    noise: float
    jpeg: int | None


def lab(rng: np.random.Generator) -> tuple[Light, Photometry]:
    """Studio light from the upper left, black background, fine grain."""
    key = unit([rng.normal(-0.35, 0.03), rng.normal(-0.6, 0.03), -0.8])
    light = Light(
        key=key,
        key_rgb=np.float32([0.75, 0.73, 0.70]) * np.float32(rng.normal(1, 0.03)),
        above_rgb=np.float32([0.55, 0.55, 0.56]),
        below_rgb=np.float32([0.22, 0.21, 0.20]),
        shadow=0.5,
        gloss=1.0,
        pupil_radius=float(max(1.3, rng.normal(1.9, 0.15))),
        background=np.full((2, 2, 3), 0.006, np.float32),
        glints=(
            Glint(key, np.full(3, 5, np.float32), 900.0),
            Glint(unit([0.5, -0.5, -0.7]), np.full(3, 2, np.float32), 900.0),
        ),
    )
    gain = np.float32([1.03, 1.0, 0.96]) * np.float32(rng.normal(0.95, 0.03))
    return light, Photometry(blur=0.45, gain=gain, noise=1.0, jpeg=None)


def wild(rng: np.random.Generator) -> tuple[Light, Photometry]:
    """Any key light, a glowing screen, cluttered background; exposure, colour, blur, noise and JPEG all vary."""
    azimuth, elevation = rng.uniform(-1.3, 1.3), rng.uniform(-0.1, 0.9)
    key = unit([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)])
    strength, ambient, screen = rng.uniform(0.1, 1.3), rng.uniform(0.2, 0.6), rng.uniform(0, 0.3)
    warmth = rng.normal(0, 0.12)
    above = np.float32([1 - 0.6 * warmth, 1, 1 + 0.6 * warmth]) * np.float32(ambient)
    light = Light(
        key=key,
        key_rgb=np.float32([1 + warmth, 1, 1 - warmth]) * np.float32(strength),
        above_rgb=above,
        below_rgb=above * np.float32(rng.uniform(0.3, 0.8)) + np.float32([0.8, 0.9, 1.1]) * np.float32(screen),
        shadow=float(rng.uniform(0.3, 0.85)),
        gloss=float(rng.uniform(0.3, 2.0)),
        pupil_radius=float(np.clip(rng.normal(1.9, 0.5), 1.0, 3.4)),
        background=_room(rng) * np.float32(ambient * rng.uniform(0.5, 1.6)),
        glints=_wild_glints(rng, key, strength, screen),
    )
    level = ambient + 0.35 * strength * np.cos(azimuth) + 0.4 * screen
    gain = np.exp(rng.normal(0, 0.06, 3) + rng.normal(0, 0.2)) * 0.72 / level
    photometry = Photometry(
        blur=float(abs(rng.normal(0.35, 0.3))),
        gain=gain.astype(np.float32),
        noise=float(rng.uniform(1.0, 4.0)),
        jpeg=int(rng.integers(65, 96)),
    )
    return light, photometry


def _wild_glints(rng: np.random.Generator, key: np.ndarray, strength: float, screen: float) -> tuple[Glint, ...]:
    def lamp(direction: np.ndarray, level: float, sharpness: float) -> Glint:
        return Glint(direction, np.full(3, level, np.float32), sharpness)

    glints = [lamp(key, 2 + 4 * strength, float(rng.choice([80, 250, 900])))]
    for _ in range(rng.integers(0, 3)):
        direction = unit([rng.normal(0, 0.6), rng.normal(-0.2, 0.5), -1.0])
        glints.append(lamp(direction, rng.uniform(0.3, 3), float(rng.choice([40, 150, 600]))))
    glow = np.float32([0.5, 0.6, 0.8]) * np.float32(2 * screen)
    return (*glints, Glint(unit([rng.normal(0, 0.1), 0.25, -1.0]), glow, 60.0))


def _room(rng: np.random.Generator) -> np.ndarray:
    """f32 [96, 96, 3]: soft patches and a few rectangles (windows, furniture, doors), muted colours, out of focus."""
    size = 96
    cells = rng.random((*rng.integers(2, 6, 2), 3), np.float32) ** 2
    room = cv2.resize(_muted(cells), (size, size), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(1, 6)):
        corner, extent = rng.integers(0, size, 2), rng.integers(8, 60, 2)
        colour = _muted(rng.random((1, 1, 3), np.float32) ** 2 * np.float32(1.5))[0, 0]
        cv2.rectangle(room, (corner - extent // 2).tolist(), (corner + extent // 2).tolist(), colour.tolist(), -1)
    return cv2.GaussianBlur(room, (0, 0), float(rng.uniform(0.8, 3.0)))


def _muted(rgb: np.ndarray) -> np.ndarray:
    grey = rgb.mean(axis=-1, keepdims=True)
    return grey + np.float32(0.35) * (rgb - grey)


@lru_cache(maxsize=1)
def _tone_curve() -> np.ndarray:
    """u8 [8192]: gamma 2.2 over linear light 0 .. 2, with a soft shoulder above 0.8."""
    linear = np.arange(8192) / 4096
    shoulder = np.where(linear < 0.8, linear, 0.8 + 0.2 * (1 - np.exp(-(linear - 0.8) / 0.2)))
    return np.clip(np.round(255 * shoulder ** (1 / 2.2)), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """f32 [2^21] unit normal deviates; a frame takes a run of them from a random place."""
    return np.random.default_rng(20_240_229).standard_normal(1 << 21, np.float32)


def tone_map(linear: np.ndarray, photometry: Photometry) -> np.ndarray:
    """Linear RGB f32 [h, w, 3] -> u8 BGR, blurred and exposed but without noise."""
    if photometry.blur > 0.3:
        linear = cv2.GaussianBlur(linear, (0, 0), photometry.blur)
    level = linear * (photometry.gain * np.float32(4096))
    np.clip(level, 0, 8191, out=level)
    return cv2.cvtColor(np.take(_tone_curve(), level.astype(np.uint16)), cv2.COLOR_RGB2BGR)


def add_noise(frame: np.ndarray, photometry: Photometry, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise after gamma, where shot noise has about the same deviation at every level; u8 in, u8 out."""
    if photometry.noise <= 0:
        return frame
    bank = _noise_bank()
    if frame.size < len(bank):
        start = int(rng.integers(0, len(bank) - frame.size))
        deviates = bank[start : start + frame.size]
    else:
        deviates = rng.standard_normal(frame.size, np.float32)
    noise = (deviates * np.float32(photometry.noise)).reshape(frame.shape)
    return cv2.add(frame, noise, dtype=cv2.CV_8U)


def compress(frame: np.ndarray, photometry: Photometry) -> np.ndarray:
    """What JPEG at the style's quality leaves of a frame."""
    if photometry.jpeg is None:
        return frame
    _, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, photometry.jpeg])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)
