"""Pixels: decoding JPEG files at the size that is needed, gray, and warps that do not alias."""

import struct
from pathlib import Path

import cv2
import numpy as np

LARGEST_SUPERSAMPLING = 8
MOST_PIXELS, LONGEST_SIDE = 100_000_000, 32_766  # OpenCV's warps go no further
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class UnusableImage(Exception):
    """A picture that cannot be used; the message is the reason, without the file's name."""


def warp(image: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """Image u8 [height, width(, 3)] drawn from `image`; `matrix` [3, 3] takes its pixels to the new ones.

    Where the new image is the coarser one it is drawn at a multiple of its size and averaged down, so that
    nothing aliases; outside of `image` it is black.
    """
    coarseness = _source_pixels_per_pixel(matrix, width, height)
    factor = int(np.clip(np.ceil(coarseness - 0.05), 1, LARGEST_SUPERSAMPLING))
    shift = (factor - 1) / 2
    finer = np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1.0]]) @ matrix
    size = (height * factor, width * factor)
    same = image.shape[:2] == size and np.allclose(finer, np.eye(3), atol=1e-9)
    drawn = image if same else cv2.warpPerspective(image, finer, size[::-1], flags=cv2.INTER_LINEAR)
    return drawn if factor == 1 else cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)


def _source_pixels_per_pixel(matrix: np.ndarray, width: int, height: int) -> float:
    """Length in source pixels of the longer side of the new image's middle pixel."""
    x, y = (width - 1) / 2, (height - 1) / 2
    corners = np.linalg.solve(matrix, np.array([[x, y, 1], [x + 1, y, 1], [x, y + 1, 1]]).T)
    corners = corners[:2] / corners[2]
    return float(np.linalg.norm(corners[:, 1:] - corners[:, :1], axis=0).max())


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole image u8 [h, w(, 3)] at another size, u8 [height, width(, 3)]; unchanged where the size is the same."""
    if image.shape[:2] == (height, width):
        return image
    smaller = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def gray_planes(planes_bgr: np.ndarray) -> np.ndarray:
    """Image u8 [h, w] of the three planes u8 [3, h, w] of a BGR image; much faster than transposing them first."""
    return gray(cv2.merge([*planes_bgr]))


def gray(image_bgr: np.ndarray) -> np.ndarray:
    """Image u8 [h, w] of a BGR image u8 [h, w, 3] (ITU-R BT.601 weights)."""
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)


def read_jpeg(path: Path, least_width: float) -> tuple[np.ndarray, bytes]:
    """BGR image u8 [h, w, 3] of a JPEG file and the file's bytes.

    A large picture is decoded at a half, a quarter or an eighth of its size, whatever leaves at least
    `least_width` pixels of width: the decoder then does a fraction of the work. Raises UnusableImage where
    the file is empty, no JPEG, larger than `MOST_PIXELS`, cut short, or cannot be decoded.
    """
    data = _bytes_of(path)
    width, height = jpeg_size(data)
    _require_size(width, height)
    # The decoder fills what is missing with gray and succeeds, so a cut file has to be told by its missing
    # end marker.
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise UnusableImage("cut short: the end of the JPEG data is missing")
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    flags[8] = cv2.IMREAD_REDUCED_COLOR_8
    reduction = max(step for step in flags if step == 1 or width / step >= least_width)
    return _decode(data, flags[reduction], "JPEG"), data


def read_picture(path: Path) -> tuple[np.ndarray, bytes]:
    """BGR image u8 [h, w, 3] of a JPEG or PNG file of 8 bits per channel, turned as its EXIF data say, and its bytes.

    Raises UnusableImage where the file is none, deeper than 8 bits, larger than `MOST_PIXELS`, cut short, or cannot be
    decoded.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return read_jpeg(path, np.inf)
    data = _bytes_of(path)
    if data[:8] != PNG_SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        raise UnusableImage("neither JPEG nor PNG; convert it" if data else "empty file")
    width, height, depth = struct.unpack(">IIB", data[16:25])
    if depth > 8:
        raise UnusableImage(f"has {depth} bits per channel; convert it to 8")
    _require_size(width, height)
    if b"IEND" not in data[-16:]:
        raise UnusableImage("cut short: the end of the PNG data is missing")
    return _decode(data, cv2.IMREAD_COLOR, "PNG"), data


def _require_size(width: int, height: int) -> None:
    """Refuse too many pixels before memory is allocated: a damaged header may claim any size."""
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise UnusableImage(f"claims {width} x {height} pixels, which is too large; scale it down")


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableImage(f"cannot be read ({error.strerror})") from None


def _decode(data: bytes, flags: int, kind: str) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise UnusableImage(f"cannot be decoded as {kind}")
    return image


def jpeg_width(data: bytes) -> int:
    """Width in pixels from the frame header of JPEG data; raises UnusableImage where there is none."""
    return jpeg_size(data)[0]


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the frame header of JPEG data; raises UnusableImage where there is none."""
    position = 2
    while data[:2] == b"\xff\xd8" and position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    raise UnusableImage("not a JPEG file" if data else "empty file")
