"""A face in a photo: where it is, its points, and names for groups of points.

Coordinates are (x, y) in pixels of the whole upright photo, which spans [0, W] x [0, H]; pixel i covers [i, i+1).
Left and right are the subject's: `left_eye` is at larger x in a frontal, unmirrored photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from visagist.photo.boxes import Box

Scheme = Literal["ibug68", "kaggle15"]

# iBUG 68-point order (Sagonas et al., "300 Faces in-the-Wild Challenge", ICCV-W 2013), 0-based.
GROUPS68: dict[str, tuple[int, ...]] = {
    "jaw": tuple(range(17)),
    "right_brow": tuple(range(17, 22)),
    "left_brow": tuple(range(22, 27)),
    "nose_bridge": tuple(range(27, 31)),
    "nose_base": tuple(range(31, 36)),
    "right_eye": tuple(range(36, 42)),
    "left_eye": tuple(range(42, 48)),
    "outer_lips": tuple(range(48, 60)),
    "inner_lips": tuple(range(60, 68)),
}

# Point i of a mirrored face is point MIRROR68[i] of the face.
MIRROR68 = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *(27, 28, 29, 30, 35, 34, 33, 32, 31),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
    ]
)

# The 15 points of Kaggle's "Facial Keypoints Detection" (2013), in the order of its columns.
POINTS15 = (
    "left_eye_center", "right_eye_center", "left_eye_inner_corner", "left_eye_outer_corner", "right_eye_inner_corner",
    "right_eye_outer_corner", "left_eyebrow_inner_end", "left_eyebrow_outer_end", "right_eyebrow_inner_end",
    "right_eyebrow_outer_end", "nose_tip", "mouth_left_corner", "mouth_right_corner", "mouth_center_top_lip",
    "mouth_center_bottom_lip",
)  # fmt: skip
MIRROR15 = np.array([1, 0, 4, 5, 2, 3, 8, 9, 6, 7, 10, 12, 11, 13, 14])
# Each of the 15 as the mean of some of the 68.
_OF68 = ((42, 48), (36, 42), 42, 45, 39, 36, 22, 26, 21, 17, 30, 54, 48, 51, 57)

FACE_BOX_SCALE = 1.10  # the face box is the bounding box of the 68 points, this much wider and higher


class Pose(NamedTuple):
    """Head pose in degrees. yaw > 0: nose to the picture's right; pitch > 0: chin up; roll > 0: tipped clockwise as seen."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo; immutable.

    box       x0, y0, x1, y1, half-open, not clipped to the photo
    score     how sure the finder is, 0..1
    points    float [P, 2] or None; `scheme` says which points
    identity  float [D], unit length, or None
    spread    float [P] or None: how far the answers of several looks at the face lie apart, in pixels
    doubt     why this is probably no face, or None
    """

    box: Box
    score: float = 1.0
    label: str = "face"
    points: np.ndarray | None = None
    scheme: Scheme | None = None
    identity: np.ndarray | None = None
    pose: Pose | None = None
    spread: np.ndarray | None = None
    doubt: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", tuple(float(v) for v in self.box))
        if (self.points is None) != (self.scheme is None):
            raise ValueError("points and scheme come together")
        if self.points is not None:
            points = np.array(self.points, dtype=np.float64).reshape(-1, 2)
            points.setflags(write=False)
            object.__setattr__(self, "points", points)

    @classmethod
    def of_points(cls, points: np.ndarray, scheme: Scheme = "ibug68", **more: Any) -> Face:
        """The face with these points; its box is theirs by the house convention (see `box_of_points`)."""
        return cls(box=box_of_points(points), points=points, scheme=scheme, **more)

    def group(self, name: str) -> np.ndarray:
        """The points of a named group of the 68, float [K, 2]. ValueError when the face has no 68 points."""
        if self.scheme != "ibug68" or self.points is None:
            raise ValueError(f"{name} needs the 68 points")
        return self.points[list(GROUPS68[name])]

    @property
    def jaw(self) -> np.ndarray:
        return self.group("jaw")

    @property
    def left_eye(self) -> np.ndarray:
        return self.group("left_eye")

    @property
    def right_eye(self) -> np.ndarray:
        return self.group("right_eye")

    @property
    def outer_lips(self) -> np.ndarray:
        return self.group("outer_lips")

    @property
    def inner_lips(self) -> np.ndarray:
        return self.group("inner_lips")

    def moved(self, affine: np.ndarray) -> Face:
        """The same face after the photo went through a 2x3 affine map; the box is the bounding box of the moved box."""
        x0, y0, x1, y1 = self.box
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) @ affine[:, :2].T + affine[:, 2]
        box = (*corners.min(0), *corners.max(0))
        points = None if self.points is None else self.points @ affine[:, :2].T + affine[:, 2]
        return replace(self, box=box, points=points, pose=None, spread=None)

    def mirrored(self, width: float) -> Face:
        """The same face in the photo mirrored left to right, with left and right points exchanged."""
        x0, y0, x1, y1 = self.box
        points = self.points
        if points is not None:
            order = MIRROR68 if self.scheme == "ibug68" else MIRROR15
            points = (np.array([width, 0.0]) + points * np.array([-1.0, 1.0]))[order]
        pose = None if self.pose is None else Pose(-self.pose.yaw, self.pose.pitch, -self.pose.roll)
        spread = None if self.spread is None else self.spread[MIRROR68 if self.scheme == "ibug68" else MIRROR15]
        return replace(self, box=(width - x1, y0, width - x0, y1), points=points, pose=pose, spread=spread)

    def as_dict(self, index: int) -> dict[str, Any]:
        """What the command line prints of a face, ready for JSON; `index` counts from 1; `spread` and `doubt` if there are any."""
        more: dict[str, Any] = {} if self.spread is None else {"spread": np.round(self.spread, 2).tolist()}
        if self.doubt is not None:
            more["doubt"] = self.doubt
        return {
            "index": index,
            "label": self.label,
            "box": [round(v, 2) for v in self.box],
            "score": round(float(self.score), 4),
            "points": None if self.points is None else np.round(self.points, 2).tolist(),
            "scheme": self.scheme,
            "pose": None if self.pose is None else {k: round(float(v), 1) for k, v in self.pose._asdict().items()},
            **more,
        }


def points15_of(points: np.ndarray) -> np.ndarray:
    """The 15 points [..., 15, 2] of the 68 [..., 68, 2]: eye centres are means of the lids, all others are points of the 68."""
    chosen = [points[..., of, :] if isinstance(of, int) else points[..., slice(*of), :].mean(-2) for of in _OF68]
    return np.stack(chosen, axis=-2)


def box_of_points(points: np.ndarray) -> Box:
    """The face box: the bounding box of the points [P, 2] with width and height x 1.10 about its centre."""
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2, (high - low) / 2 * FACE_BOX_SCALE
    (x0, y0), (x1, y1) = (centre - half).tolist(), (centre + half).tolist()
    return x0, y0, x1, y1


def by_falling_area(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Faces in the order in which the product numbers them: the largest first, ties from left to right."""
    return tuple(sorted(faces, key=lambda f: (-(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]), f.box[0], f.box[1])))
