"""Where 15 points lie in a face: the mean layout, the square they are looked for in, and whether they can be a face's at all.

NumPy only. Faces of whatever labels come in here (68 points, 15 points with gaps, a box alone) and the window of a square comes
out: the square about the tight box of the 68 points, MARGIN times its longer side. That is the picture the networks learn from.
"""

from __future__ import annotations

import numpy as np

from visagist.landmarks.landmarks68 import mean_face
from visagist.photo.boxes import Box
from visagist.photo.face import FACE_BOX_SCALE, POINTS15, Face, points15_of
from visagist.photo.window import Window, similarity
from visagist.recipe import Item

SIZE = 96  # side of the network's picture in pixels
MARGIN = 1.3  # side of the square over the longer side of the tight box of the 68 points
FIRST_SCALE, FIRST_SHIFT = FACE_BOX_SCALE, -0.08 * FACE_BOX_SCALE / MARGIN  # of the first square to it: side, centre in its sides
LEFT_EYE, RIGHT_EYE, NOSE, TOP_LIP, BOTTOM_LIP = (
    POINTS15.index(name)
    for name in ("left_eye_center", "right_eye_center", "nose_tip", "mouth_center_top_lip", "mouth_center_bottom_lip")
)
MOUTH = [POINTS15.index(name) for name in POINTS15 if name.startswith("mouth")]


def mean_layout() -> np.ndarray:
    """The mean face [15, 2] in units of the square: x and y from -1 (left, top edge) to 1."""
    side = mean_face() * FACE_BOX_SCALE  # the tight box has sides of about 1 now
    return points15_of(side) * 2 / MARGIN


def window_of_box(box: Box) -> Window:
    """The square about a face box of the house, which is the tight box with sides x 1.10: what the networks learn from."""
    x0, y0, x1, y1 = box
    side = MARGIN / FACE_BOX_SCALE * max(x1 - x0, y1 - y0)
    return Window.turned(((x0 + x1) / 2, (y0 + y1) / 2), side, SIZE)


def first_window(box: Box) -> Window:
    """The square in which a face of a photo is looked for first: max(width, height) x 1.3, its centre 8 % of that further up."""
    x0, y0, x1, y1 = box
    longer = max(x1 - x0, y1 - y0)
    return Window.turned(((x0 + x1) / 2, (y0 + y1) / 2 - 0.08 * longer), 1.3 * longer, SIZE)


def window_of_points(points: np.ndarray, *, turned: bool = False) -> Window:
    """The square that 15 points [15, 2] speak of: the mean layout laid over those that are there, in its smallest error.

    turned: with the head's roll taken out; else upright. ValueError with fewer than two points.
    """
    there = np.isfinite(points).all(1)
    if there.sum() < 2:
        raise ValueError("fewer than two points")
    matrix = similarity(points[there], (mean_layout()[there] + 1) * SIZE / 2)
    if turned:
        return Window(matrix, (SIZE, SIZE))
    centre = Window(matrix, (SIZE, SIZE)).to_photo(np.array([SIZE / 2, SIZE / 2]))
    return Window.turned((float(centre[0]), float(centre[1])), side_of(Window(matrix, (SIZE, SIZE))), SIZE)


def side_of(window: Window) -> float:
    """The side of a window's square in pixels of the photo."""
    return SIZE / window.scale


def tight(face: Face, window: Window) -> np.ndarray:
    """The tight box [4] of a labelled face in photo pixels, against which errors are counted: that of its 68 points, or with 15
    only the box of which the window is the square."""
    if face.scheme == "ibug68" and face.points is not None:
        return np.concatenate([face.points.min(0), face.points.max(0)])
    centre, half = window.to_photo(np.array([SIZE / 2, SIZE / 2])), side_of(window) / MARGIN / 2
    return np.concatenate([centre - half, centre + half])


def labelled(face: Face) -> np.ndarray | None:
    """The 15 points [15, 2] of a labelled face, NaN where a point is not labelled; None where it has neither 15 nor 68."""
    if face.points is None:
        return None
    return points15_of(face.points) if face.scheme == "ibug68" else np.asarray(face.points)


def labelled_window(item: Item, face: Face) -> Window:
    """The square in which a labelled face is learnt and measured.

    About the tight box of 68 points; where only the 15 are labelled, the square they speak of. A picture of 96 x 96 with 15 points
    (a row of Kaggle's files) is that square itself.
    """
    if face.scheme == "ibug68":
        return window_of_box(face.box)
    points = labelled(face)
    if points is None or item.photo.size == (SIZE, SIZE):
        return Window.turned((SIZE / 2, SIZE / 2), SIZE, SIZE)
    return window_of_points(points)


def doubt(points: np.ndarray, side: float) -> str | None:
    """Why 15 points [15, 2] found in a square of `side` are probably no face's, or None.

    The picture is upright and so are most faces in it: a head tipped by more than a quarter turn is doubted too.
    """
    if not np.isfinite(points).all():
        return "points are missing"
    eyes, mouth = (points[LEFT_EYE] + points[RIGHT_EYE]) / 2, points[MOUTH].mean(0)
    width, height = np.ptp(points, axis=0)
    if min(width, height) < 0.08 * side:
        return "the points lie on one spot or line"
    if mouth[1] <= eyes[1]:
        return "the eyes are below the mouth"
    across, down = points[LEFT_EYE] - points[RIGHT_EYE], mouth - eyes
    if across[0] * down[1] - across[1] * down[0] <= 0:
        return "left and right are swapped"
    if (points[BOTTOM_LIP] - points[TOP_LIP]) @ down < -0.1 * (down @ down):
        return "the lower lip is above the upper"
    if not 0 < (points[NOSE] - eyes) @ down < down @ down:
        return "the nose is not between eyes and mouth"
    return None
