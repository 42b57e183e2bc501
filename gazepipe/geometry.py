"""Angles, vectors, cameras, and data normalisation: the one place where signs and frames are decided.

Frames. Camera: x to the image's right, y down, z away from the camera; lengths in millimetres. Head: the same
orientation (x to the image's right for a face that looks into the camera, y down the face, z into the
head). Angles are (pitch, yaw) in radians; looking straight into the camera is (0, 0), up and to the image's
left are positive.
Pixels. Integer coordinates are pixel centres (OpenCV), so the middle of an image of width w is (w - 1) / 2.

Everything is float64 NumPy and takes leading batch dimensions where the docstring says [..., n].
"""

import numpy as np

VIEW_SIZE_PX = 448
"""Side of the normalised face view of the MPIIFaceGaze release."""
VIEW_FOCAL_PX = 960.0
VIEW_DISTANCE_MM = 600.0
VIEW_GEOMETRY = "normalised face view (448 px, focal length 960 px, 600 mm, no head roll); x right, y down"

BAND_WIDTH_PX = 192
"""Width of the eye band in the view: 120 mm at the distance of the face centre."""
BAND_RISE_PX = 32
"""How far the middle of the eye band lies above the middle of the view: 20 mm."""

EYE_WIDTH_PX, EYE_HEIGHT_PX = 60, 36
"""Size of a normalised eye image of the MPIIGaze release: 37.5 mm wide at the view's distance and focal length."""

XGAZE_VIEW_SHARE = 0.5
"""Width of ETH-XGaze's normalised face over that of the view: 140 of 280 mm (448 px at 960 px and 300 mm)."""

COLUMBIA_FOCAL_PX = 19_760.0
"""85 mm lens on a 22.3 mm sensor, in pixels of the full-resolution image."""
COLUMBIA_WIDTH_PX = 5184


def angles_to_vector(angles: np.ndarray) -> np.ndarray:
    """Unit vectors [..., 3] of (pitch, yaw) [..., 2] in radians: (-cos p sin y, -sin p, -cos p cos y)."""
    angles = np.asarray(angles, np.float64)
    pitch, yaw = angles[..., 0], angles[..., 1]
    return np.stack([-np.cos(pitch) * np.sin(yaw), -np.sin(pitch), -np.cos(pitch) * np.cos(yaw)], axis=-1)


def vector_to_angles(vectors: np.ndarray) -> np.ndarray:
    """(pitch, yaw) [..., 2] in radians of vectors [..., 3] of any positive length.

    Pitch lies within +-pi/2, yaw within +-pi. The inverse of `angles_to_vector`.
    """
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    return np.stack([np.arctan2(-y, np.hypot(x, z)), np.arctan2(-x, -z)], axis=-1)


def angular_error_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in degrees, [...], between vectors a and b [..., 3] of any positive length.

    atan2(|a x b|, a.b): exact near 0 and 180 degrees, where acos is not.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1)))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] scaled to length 1."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def look_at(target: np.ndarray, x_axis: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] into the frame of a camera at the same place that looks at `target` [3].

    Its rows are the new axes: z towards `target`, y perpendicular to `x_axis` [3], x as near to it as that
    allows.
    """
    z = unit(target)
    y = unit(np.cross(z, x_axis))
    return np.stack([np.cross(y, z), y, z])


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] about `vector` [3] by its length in radians (Rodrigues's formula)."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = np.asarray(vector, np.float64) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def screen_point(pixels: np.ndarray, screen: dict) -> np.ndarray:
    """Points [..., 3] mm, in the camera's frame, of screen pixels (x, y) [..., 2] from the upper left corner.

    `screen` holds width and height in pixels, width_mm, height_mm, origin [3] mm of the upper left corner and
    rotation [3], the rotation vector that takes the screen's axes to the camera's (as in MPIIGaze's monitorPose.mat).
    """
    pitch = np.array([screen["width_mm"] / screen["width"], screen["height_mm"] / screen["height"]])
    across, down = rotation_matrix(np.array(screen["rotation"])).T[:2]
    mm = np.asarray(pixels, np.float64) * pitch
    return np.array(screen["origin"]) + mm[..., :1] * across + mm[..., 1:] * down


def camera_matrix(width: int, height: int, focal_px: float) -> np.ndarray:
    """Intrinsics [3, 3] of a camera with square pixels and its principal point in the middle of the image."""
    return np.array([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])


def columbia_camera(width: int, height: int) -> np.ndarray:
    """Intrinsics [3, 3] of a Columbia Gaze picture, or of a copy scaled to `width` x `height` pixels."""
    return camera_matrix(width, height, COLUMBIA_FOCAL_PX * width / COLUMBIA_WIDTH_PX)


def columbia_gaze(vertical_deg: float, horizontal_deg: float, face_center: np.ndarray) -> np.ndarray:
    """Unit gaze vector [3] in the camera frame from V and H of a Columbia file name; `face_center` [3] in mm.

    V and H are measured at the face centre from the direction to the camera, V > 0 up, H > 0 to the image's
    right: (pitch, yaw) = (V, -H) for a camera turned to look at the face centre with its x axis kept
    horizontal.
    """
    level = look_at(face_center, x_axis=np.cross([0.0, 1.0, 0.0], face_center))
    return level.T @ angles_to_vector(np.radians([vertical_deg, -horizontal_deg]))


def head_frame(right_eye: np.ndarray, left_eye: np.ndarray, mouth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head rotation [3, 3] and face centre [3] from the middles of the right eye, left eye and mouth.

    Points are [3] in the camera frame. The columns of the rotation are the head's axes as MPIIGaze defines
    them: x from the right eye to the left one, y in the plane of the points towards the mouth, z completing
    them, into the head. The face centre is the mean of the three points.
    """
    points = np.asarray([right_eye, left_eye, mouth], np.float64)
    x = unit(points[1] - points[0])
    z = unit(np.cross(x, points[2] - (points[0] + points[1]) / 2))
    return np.stack([x, np.cross(z, x), z], axis=1), points.mean(axis=0)


def head_angles(head_rotation: np.ndarray) -> np.ndarray:
    """(pitch, yaw) [2] in radians of a head rotation [3, 3], as in the MPIIFaceGaze labels: of its z axis.

    (asin z_y, atan2(z_x, z_z)), which are the gaze angles of the direction that the face points in, -z.
    """
    return vector_to_angles(-np.asarray(head_rotation)[:, 2])


def normalisation(
    face_center_mm: np.ndarray,
    head_rotation: np.ndarray,
    camera_matrix: np.ndarray,
    patch_camera_matrix: np.ndarray,
    distance_mm: float = VIEW_DISTANCE_MM,
) -> tuple[np.ndarray, np.ndarray]:
    """Data normalisation (Zhang, Sugano, Bulling, ETRA 2018): rotation R [3, 3] and warp W [3, 3].

    R turns the camera towards the face centre [3] and cancels the roll of the head (rotation [3, 3],
    columns its axes): a gaze vector g of the camera frame becomes R g (R, not S R, as in the MPIIFaceGaze
    release). W = C_n S R C_r^-1 with S = diag(1, 1, distance / |face centre|) maps pixels of the picture
    (intrinsics C_r) to pixels of the patch (intrinsics C_n).
    """
    rotation = look_at(face_center_mm, np.asarray(head_rotation)[:, 0])
    scaling = np.diag([1.0, 1.0, distance_mm / np.linalg.norm(face_center_mm)])
    return rotation, patch_camera_matrix @ scaling @ rotation @ np.linalg.inv(camera_matrix)


def view_camera(size: int = VIEW_SIZE_PX) -> np.ndarray:
    """Intrinsics [3, 3] of the whole normalised view at `size` x `size` pixels (448 in MPIIFaceGaze)."""
    return camera_matrix(size, size, VIEW_FOCAL_PX * size / VIEW_SIZE_PX)


def eye_camera(width: int = EYE_WIDTH_PX, height: int = EYE_HEIGHT_PX) -> np.ndarray:
    """Intrinsics [3, 3] of a whole normalised eye image at `width` x `height` pixels (60 x 36 in MPIIGaze)."""
    camera = camera_matrix(width, height, VIEW_FOCAL_PX * width / EYE_WIDTH_PX)
    camera[1, 1] = VIEW_FOCAL_PX * height / EYE_HEIGHT_PX
    return camera


def xgaze_camera(size: int) -> np.ndarray:
    """Intrinsics [3, 3], at the view's distance, of ETH-XGaze's normalised face at `size` x `size` pixels."""
    return camera_matrix(size, size, VIEW_FOCAL_PX * size / VIEW_SIZE_PX / XGAZE_VIEW_SHARE)


def patch_camera(patch: dict) -> np.ndarray:
    """Intrinsics [3, 3] of the patch that the network sees, as a part of the normalised view.

    `patch` is {"kind": "face" | "eyes" | "eye", "height", "width"} in pixels. `face` is the whole view, `eyes` a
    band 192 view pixels wide (120 mm) with the patch's aspect, centred 32 view pixels (20 mm) above the
    middle, `eye` the whole normalised image of one eye. Raises ValueError for another kind.
    """
    width, height = patch["width"], patch["height"]
    if patch["kind"] == "eye":
        return eye_camera(width, height)
    if patch["kind"] == "face":
        scale_x, scale_y, rise = width / VIEW_SIZE_PX, height / VIEW_SIZE_PX, 0.0
    elif patch["kind"] == "eyes":
        scale_x = scale_y = width / BAND_WIDTH_PX
        rise = BAND_RISE_PX * scale_y
    else:
        raise ValueError(f"patch kind {patch['kind']!r} is none of 'face', 'eyes' and 'eye'")
    return np.array(
        [
            [VIEW_FOCAL_PX * scale_x, 0.0, (width - 1) / 2],
            [0.0, VIEW_FOCAL_PX * scale_y, (height - 1) / 2 + rise],
            [0.0, 0.0, 1.0],
        ]
    )
