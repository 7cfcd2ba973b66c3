"""A mouth in a photo: its outlines, its box, and the two windows through which it is seen. NumPy and OpenCV only.

    level frame   photo coordinates turned about the mouth's centre so that its corners lie level; lengths are photo pixels
    box           the bounding box of points 48-60 in the level frame, without margin, as the training crops were cut
    crop          the window of the box, 30 x 90: what the network sees
    view          a window of the mouth and the skin around it, in proportion: where the mask is made

Training crops were cut level; a tilted head is therefore turned level first instead of cutting a larger upright box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import cv2
import numpy as np

from visagist.photo.blend import curve
from visagist.photo.boxes import Box
from visagist.photo.face import Face
from visagist.photo.window import Window

CROP = (30, 90)  # (height, width) of the network's window
AROUND = 0.25  # skin shown around the box by the view, in mouth widths
FINE = (128, 224)  # least and largest length of a mouth in the view, in its pixels; lips have no finer edge than that


@dataclass(frozen=True, eq=False)
class Mouth:
    """outer float [12, 2] and inner float [8, 2] or None, in photo coordinates, in the order of points 48-59 and 60-67.

    size   (height, width) of the photo
    level  float [2, 3]: photo -> level frame
    box    in the level frame
    """

    SMALLEST: ClassVar[float] = 6.0  # narrower mouths, in pixels, are left alone

    outer: np.ndarray
    inner: np.ndarray | None
    size: tuple[int, int]
    level: np.ndarray
    box: Box

    @classmethod
    def of(cls, face: Face, size: tuple[int, int]) -> Mouth | None:
        """The mouth of a face in a photo of size (height, width); None if it has none that could be painted."""
        outlines = _outlines(face)
        if outlines is None:
            return None
        outer, inner = outlines
        if not np.isfinite(outer).all() or (inner is not None and not np.isfinite(inner).all()):
            return None
        low, high = outer.min(0), outer.max(0)
        if (high <= 0).any() or (low >= size[::-1]).any():
            return None  # outside the photo
        across = outer[6] - outer[0]
        turn = float(np.arctan2(across[1], across[0])) if np.hypot(*across) > 0.3 * np.hypot(*(high - low)) else 0.0
        c, s, centre = np.cos(turn), np.sin(turn), (low + high) / 2
        linear = np.array([[c, s], [-s, c]])
        level = np.hstack([linear, (centre - linear @ centre)[:, None]])
        around = outer if inner is None else np.concatenate([outer, inner[:1]])
        seen = around @ linear.T + level[:, 2]
        (x0, y0), (x1, y1) = seen.min(0), seen.max(0)
        if x1 - x0 < cls.SMALLEST or y1 - y0 < cls.SMALLEST / 6 or max(x1 - x0, y1 - y0) > 50 * max(size):
            return None
        return cls(outer, inner, size, level, (float(x0), float(y0), float(x1), float(y1)))

    @property
    def width(self) -> float:
        """Of the box, in photo pixels; the unit of all lengths about a mouth."""
        return self.box[2] - self.box[0]

    @property
    def opening(self) -> float:
        """Area between the lips over the area within the outer outline, 0..1; 0 when nothing is known of it."""
        if self.inner is None:
            return 0.0
        area = float(cv2.contourArea(self.outer.astype(np.float32)))
        return float(cv2.contourArea(self.inner.astype(np.float32))) / area if area > 0 else 0.0

    @cached_property
    def crop(self) -> Window:
        """The network's window."""
        return Window(_after(Window.of_box(self.box, CROP).matrix, self.level), CROP)

    @cached_property
    def view(self) -> Window:
        """The mouth and the skin around it, in proportion."""
        x0, y0, x1, y1 = self.box
        margin = AROUND * self.width
        length = max(x1 - x0, y1 - y0)
        scale = float(np.clip(length, *FINE)) / length
        size = (round((y1 - y0 + 2 * margin) * scale), round((x1 - x0 + 2 * margin) * scale))
        onto = np.array([[scale, 0, scale * (margin - x0)], [0, scale, scale * (margin - y0)]])
        return Window(_after(onto, self.level), size)

    @property
    def unit(self) -> float:
        """The mouth's width in pixels of the view."""
        return self.width * self.view.scale

    def outlines(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Outer and inner outline as smooth closed curves in pixels of the view, [96, 2] and [64, 2]."""
        outer = curve(self.view.to_window(self.outer), sharp=(0, 6), steps=8)
        return outer, None if self.inner is None else curve(self.view.to_window(self.inner), sharp=(0, 4), steps=8)

    def depth(self, *outlines: np.ndarray) -> np.ndarray:
        """How far pixels of the view lie inside the union of these outlines, negative outside: float32 [h, w] in mouth widths."""
        return _depth(outlines, self.view.size) / self.unit

    def inside(self, region: tuple[slice, slice], grown: float) -> np.ndarray:
        """How far pixels of a region of the photo lie inside the box, grown by so many pixels on all sides: float32 [h, w]."""
        x0, y0, x1, y1 = self.box
        rows = np.arange(region[0].start, region[0].stop, dtype=np.float32)[:, None] + 0.5
        columns = np.arange(region[1].start, region[1].stop, dtype=np.float32)[None, :] + 0.5
        m = self.level.astype(np.float32)
        across = m[0, 0] * columns + m[0, 1] * rows + m[0, 2]
        down = m[1, 0] * columns + m[1, 1] * rows + m[1, 2]
        nearest = np.minimum(np.minimum(across - x0, x1 - across), np.minimum(down - y0, y1 - down))
        return np.asarray(nearest + grown, np.float32)

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the photo that the view can show."""
        height, width = self.view.size
        corners = self.view.to_photo(np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64))
        (x0, y0), (x1, y1) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
        rows = slice(min(max(y0, 0), self.size[0]), max(min(y1, self.size[0]), 0))
        return rows, slice(min(max(x0, 0), self.size[1]), max(min(x1, self.size[1]), 0))


def _outlines(face: Face) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Outer and inner outline by the scheme of the face's points."""
    if face.points is None:
        return None
    if face.scheme == "ibug68":
        return face.outer_lips, face.inner_lips
    # 15 points: mouth corners and the middles of both lips; from corner to corner over the top, then back, like points 48-59
    left, right, top, bottom = face.points[11:15]
    if right[0] > left[0]:  # mirrored photo or face upside down: begin at the picture's left all the same
        left, right = right, left
    angle = np.pi - np.arange(12) * (np.pi / 6)
    over = np.sin(angle)[:, None]
    middle, half = (left + right) / 2, (left - right) / 2
    rise = np.where(over > 0, top - middle, middle - bottom)
    return middle + np.cos(angle)[:, None] * half + over * rise, None


def _after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine map [2, 3] that does first, then second."""
    matrix: np.ndarray = second[:, :2] @ first
    matrix[:, 2] += second[:, 2]
    return matrix


def _depth(outlines: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """How far pixels lie inside the union of outlines [P, 2], negative outside: float32 [h, w] in pixels."""
    filled = np.zeros(size, np.uint8)
    for outline in outlines:
        corners = np.rint(np.clip(outline - 0.5, -4096, 4096) * 256).astype(np.int32)
        cv2.fillPoly(filled, [corners], 1, lineType=cv2.LINE_8, shift=8)
    if not filled.any():
        return np.full(size, -float(max(size)), np.float32)
    inwards = cv2.distanceTransform(filled, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outwards = cv2.distanceTransform(1 - filled, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.where(filled > 0, inwards - 0.5, 0.5 - outwards).astype(np.float32)
