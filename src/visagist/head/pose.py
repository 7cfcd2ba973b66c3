"""How a head is turned, from its 68 points.

A generic rigid head is fitted to the points under a camera so far away that perspective does not matter (scaled orthography):
a closed form gives the start, a few Gauss-Newton steps the least squares over yaw, pitch, roll, size and place.

The head's 68 points are read off the neutral ICT-FaceKit face model (USC Institute for Creative Technologies, MIT licence; Li et
al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020; see NOTICE). One head serves everybody, so an angle can be
off by some degrees from person to person; and as the points of a turned face's hidden side lie on the visible outline, a true
profile comes out at 45-65 degrees of yaw.
"""

from __future__ import annotations

import numpy as np

from visagist.photo.face import MIRROR68, Pose

# Points of the neutral face, x to the picture's right, y up, z towards the viewer, about centimetres; the other half mirrored.
_HALF = {
    17: (-5.82, 5.20, 7.91), 18: (-4.93, 5.98, 8.99), 19: (-3.79, 6.26, 9.83), 20: (-2.41, 6.19, 10.48), 21: (-1.17, 5.91, 10.73),
    27: (0.00, 3.74, 10.73), 28: (0.00, 2.63, 11.52), 29: (0.00, 1.61, 12.31), 30: (0.00, 0.41, 13.07),
    31: (-1.25, -1.14, 10.87), 32: (-0.60, -1.14, 11.42), 33: (0.00, -1.20, 11.57),
    36: (-4.46, 3.43, 8.60), 37: (-3.87, 3.87, 9.36), 38: (-2.78, 3.94, 9.53),
    39: (-1.84, 3.25, 9.20), 40: (-2.73, 3.08, 9.41), 41: (-3.86, 3.07, 9.23),
    48: (-2.53, -3.52, 10.19),
}  # fmt: skip

# By how much the labelled near-frontal training frames (|yaw| < 10) look down on this head, in degrees: their median gets pitch 0.
_PITCH_ZERO = -10.42


def _generic_head() -> tuple[list[int], np.ndarray]:
    """Numbers of the points that a moving jaw leaves alone, and their places: x right, y down, z away from the viewer, centred."""
    places = dict(_HALF)
    for i, (x, y, z) in _HALF.items():
        places.setdefault(int(MIRROR68[i]), (-x, y, z))
    numbers = sorted(places)
    points = np.array([places[i] for i in numbers]) * (1, -1, -1)
    return numbers, points - points.mean(0)


def rotation(pose: Pose) -> np.ndarray:
    """Rotation [3, 3] of a head in the camera's frame (x right, y down, z away): turned by yaw, then pitch, then roll."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in np.deg2rad(np.array(pose, dtype=np.float64)))
    by_yaw = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    by_pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    by_roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: np.ndarray = by_roll @ by_pitch @ by_yaw
    return turned


def angles(turn: np.ndarray) -> Pose:
    """The pose whose `rotation` this is, with |pitch| <= 90."""
    pitch = np.arcsin(np.clip(-turn[2, 1], -1, 1))
    yaw = np.arctan2(turn[2, 0], turn[2, 2])
    roll = np.arctan2(-turn[0, 1], turn[1, 1])
    return Pose(*(float(v) for v in np.rad2deg([yaw, pitch, roll])))


_NUMBERS, _HEAD = _generic_head()
_HEAD = _HEAD @ rotation(Pose(0.0, _PITCH_ZERO, 0.0)).T


def pose_of(points: np.ndarray) -> Pose:
    """The pose of the head behind points [68, 2] (x, y of a picture, y down). ValueError when they all coincide."""
    seen = np.asarray(points, dtype=np.float64)[_NUMBERS]
    seen = seen - seen.mean(0)
    size = float(np.sqrt((seen**2).sum()))
    if not size > 0:
        raise ValueError("all points coincide")
    seen = seen / size
    # start: the affine camera [2, 3] by least squares, its rows made orthonormal
    camera = np.linalg.lstsq(_HEAD, seen, rcond=None)[0].T
    u, _, vt = np.linalg.svd(camera, full_matrices=False)
    rows = u @ vt
    now = np.array(angles(np.vstack([rows, np.cross(rows[0], rows[1])])))
    for _ in range(8):
        off = _residual(now, seen)
        step = 1e-3
        slope = np.stack([(_residual(now + step * axis, seen) - off) / step for axis in np.eye(3)], axis=1)
        change = np.linalg.lstsq(slope, -off, rcond=None)[0]
        now = now + np.clip(change, -10, 10)
        if np.abs(change).max() < 1e-4:
            break
    return angles(rotation(Pose(*now)))


def _residual(pose: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What is left of centred points [P, 2] after the head in this pose, in its best size, is taken away; flat [2P]."""
    flat = (_HEAD @ rotation(Pose(*pose)).T)[:, :2]
    best = float((flat * seen).sum() / (flat**2).sum())
    return (seen - best * flat).ravel()
