"""Pixels: decoding JPEG files at the size that is needed, gray, and warps that do not alias."""

import struct
from pathlib import Path

import cv2
import numpy as np

LARGEST_SUPERSAMPLING = 8


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
    drawn = cv2.warpPerspective(image, finer, (width * factor, height * factor), flags=cv2.INTER_LINEAR)
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


def gray(image_bgr: np.ndarray) -> np.ndarray:
    """Image u8 [h, w] of a BGR image u8 [h, w, 3] (ITU-R BT.601 weights)."""
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)


def read_jpeg(path: Path, least_width: float) -> tuple[np.ndarray, bytes]:
    """BGR image u8 [h, w, 3] of a JPEG file and the file's bytes.

    A large picture is decoded at a half, a quarter or an eighth of its size, whatever leaves at least
    `least_width` pixels of width: the decoder then does a fraction of the work. Raises UnusableImage where
    the file is empty, no JPEG, cut short, or cannot be decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnusableImage(f"cannot be read ({error.strerror})") from None
    width = jpeg_width(data)
    # The decoder fills what is missing with gray and succeeds, so a cut file has to be told by its missing
    # end marker.
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise UnusableImage("cut short: the end of the JPEG data is missing")
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    flags[8] = cv2.IMREAD_REDUCED_COLOR_8
    reduction = max(step for step in flags if step == 1 or width / step >= least_width)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags[reduction])
    if image is None:
        raise UnusableImage("cannot be decoded as JPEG")
    return image, data


def jpeg_width(data: bytes) -> int:
    """Width in pixels from the frame header of JPEG data; raises UnusableImage where there is none."""
    position = 2
    while data[:2] == b"\xff\xd8" and position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack(">H", data[position + 7 : position + 9])[0]
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    raise UnusableImage("not a JPEG file" if data else "empty file")
