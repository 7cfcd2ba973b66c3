"""How a head is turned, from its 68 points.

A generic rigid head is fitted to the points under a camera so far away that perspective does not matter (scaled orthography):
a closed form gives the start, a few Gauss-Newton steps the least squares over yaw, pitch, roll, size and place.

The head is the rigid one that explains the labelled points of the training frames best (metric structure from motion:
`benchmarks/annotated_points.py`). One head serves everybody, so an angle can be off by some degrees from person to person; and as
the points of a turned face's hidden side lie on the visible outline, a true profile comes out with less yaw than it has.
"""

from __future__ import annotations

import numpy as np

from visagist.photo.face import MIRROR68, Pose

# Its points: x to the picture's right, y up, z towards the viewer, about centimetres; the other half mirrored.
_HALF = {
    17: (-5.97, 5.08, 8.14), 18: (-5.04, 5.78, 9.13), 19: (-3.90, 6.03, 9.78), 20: (-2.85, 5.97, 10.16), 21: (-1.91, 5.75, 10.37),
    27: (0.00, 3.64, 10.79), 28: (0.00, 2.39, 11.62), 29: (0.00, 1.23, 12.54), 30: (0.00, 0.18, 12.80),
    31: (-1.27, -0.80, 11.05), 32: (-0.73, -0.92, 11.40), 33: (0.00, -1.06, 11.58),
    36: (-4.53, 3.55, 8.77), 37: (-3.79, 3.88, 9.40), 38: (-2.86, 3.88, 9.44),
    39: (-2.01, 3.50, 9.30), 40: (-2.80, 3.26, 9.46), 41: (-3.77, 3.24, 9.27),
    48: (-2.69, -3.42, 10.01),
}  # fmt: skip

# By how much the labelled near-frontal training frames (|yaw| < 10) look down on this head, in degrees: their median gets pitch 0.
_PITCH_ZERO = -5.33


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
