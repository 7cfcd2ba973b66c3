"""The aligned window of a face: eyes, nose and mouth at fixed places, whoever it is and however large.

The five places are the template that most recognition networks are trained with, in a window of 112 pixels (Deng et al., ArcFace.
CVPR 2019; Guo et al., MS-Celeb-1M. ECCV 2016); a similarity by least squares brings the face's own five points closest to them.
"""

from __future__ import annotations

import numpy as np

from visagist.errors import FaceError
from visagist.photo.face import POINTS15, Face
from visagist.photo.window import Window

SIDE = 112  # of the window in which the template is written down
# The eye at the left of the picture, the one at its right, tip of the nose, left and right corner of the mouth.
TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
_OF15 = [POINTS15.index(f"{name}") for name in ("right_eye_center", "left_eye_center", "nose_tip")]
_OF15 += [POINTS15.index(f"mouth_{side}_corner") for side in ("right", "left")]


def five_points(face: Face) -> np.ndarray:
    """Eyes, tip of the nose and corners of the mouth, float [5, 2], of a face with 68 or 15 points.

    FaceError "no-points" where it has none, "no-fit" where they coincide.
    """
    if face.points is None:
        raise FaceError("the face has no points", code="no-points", hint="give faces that `landmarks` found")
    points = face.points
    if face.scheme == "kaggle15":
        five = points[_OF15]
    else:
        five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
    if not np.isfinite(five).all() or not np.ptp(five, axis=0).max() > 0:
        raise FaceError("the points make no face", code="no-fit")
    return five


def window_of(five: np.ndarray, side: int, zoom: float = 1.0) -> Window:
    """The window of `side` pixels in which five points [5, 2] lie closest to the template, shown `zoom` times as large."""
    middle = SIDE / 2
    template = ((TEMPLATE - middle) * zoom + middle) * (side / SIDE)
    return Window.aligned(five, template, (side, side))
