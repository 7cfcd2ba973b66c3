"""Soft masks in photo pixels: where an edit shows, and how it fades out.

A mask is kept only where it is not zero (`Mask`): on a photo of 12 megapixels a mouth then takes 1 MB instead of 48.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from visagist.photo.boxes import Box


@dataclass(frozen=True, eq=False)
class Mask:
    """values float32 [h, w] in 0..1, whose upper left pixel is pixel (y0, x0) of the photo; 0 everywhere else."""

    values: np.ndarray
    y0: int = 0
    x0: int = 0

    @classmethod
    def of(cls, full: np.ndarray) -> Mask:
        """The part of a mask float [H, W] of a whole photo that is not zero."""
        rows, columns = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
        if not rows.size:
            return cls(np.zeros((0, 0), np.float32))
        y0, x0 = int(rows[0]), int(columns[0])
        return cls(np.ascontiguousarray(full[y0 : rows[-1] + 1, x0 : columns[-1] + 1], np.float32), y0, x0)

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the photo that the values cover: `pixels[mask.region]`."""
        height, width = self.values.shape
        return slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)

    @property
    def empty(self) -> bool:
        """Whether it is zero everywhere."""
        return not self.values.any()

    def full(self, size: tuple[int, int]) -> np.ndarray:
        """float32 [H, W] of the whole photo of `size` (height, width)."""
        out = np.zeros(size, np.float32)
        out[self.region] = self.values
        return out

    def times(self, factor: float | np.ndarray) -> Mask:
        """The mask times a number, or times float [h, w] over its own region."""
        return Mask((self.values * factor).astype(np.float32), self.y0, self.x0)

    def ramped(self, box: Box, width: float) -> Mask:
        """The mask faded out towards the border of a box: 1 from `width` pixels inside it, 0 on the border and outside."""
        rows, columns = (np.arange(s.start, s.stop) + 0.5 for s in self.region)
        x0, y0, x1, y1 = box

        def ramp(places: np.ndarray, low: float, high: float) -> np.ndarray:
            inside: np.ndarray = np.minimum(places - low, high - places) - 0.5  # 0 for the outermost whole pixel
            return np.clip(inside / max(width, 1e-6), 0, 1)

        return self.times(ramp(rows, y0, y1)[:, None] * ramp(columns, x0, x1)[None, :])


def polygon_mask(
    outline: np.ndarray, size: tuple[int, int], *, feather: float = 0.0, holes: Sequence[np.ndarray] = (), grow: float = 0.0
) -> Mask:
    """A filled polygon with soft edges.

    outline  float [P, 2], (x, y) in photo coordinates; may leave the photo
    size     (height, width) of the photo
    feather  standard deviation in pixels of the Gaussian that softens the edge; 0 leaves it antialiased
    holes    polygons that are cut out before softening
    grow     pixels by which the edge is moved outwards first, inwards where negative; edges of holes the other way
    Only the polygon's surroundings are computed. The mask is exactly 0 further than 3 feathers from the edge, counted along rows
    and columns.
    """
    outline = np.asarray(outline, np.float64)
    if not np.isfinite(outline).all() or outline.ndim != 2 or outline.shape[0] < 3:
        raise ValueError("an outline is three or more finite points [P, 2]")
    reach = int(np.ceil(3 * feather)) if feather > 0 else 0
    margin = reach + int(np.ceil(max(grow, 0.0))) + 2
    low, high = np.floor(outline.min(0)) - margin, np.ceil(outline.max(0)) + margin
    # What lies further outside the photo than the feather reaches cannot show.
    far = margin + int(np.ceil(abs(grow)))
    x0, y0 = (int(max(v, -far)) for v in low)
    x1, y1 = (int(min(v, n + far)) for v, n in zip(high, size[::-1], strict=True))
    if x1 <= x0 or y1 <= y0:
        return Mask(np.zeros((0, 0), np.float32))
    values = _filled(outline, grow, x0, y0, x1, y1)
    for hole in holes:
        values *= 1 - _filled(np.asarray(hole, np.float64), -grow, x0, y0, x1, y1)
    if reach:
        values = cv2.GaussianBlur(values, (2 * reach + 1, 2 * reach + 1), feather, borderType=cv2.BORDER_REPLICATE)
        np.minimum(values, 1, out=values)
    top, left = max(0, -y0), max(0, -x0)
    values = values[top : size[0] - y0, left : size[1] - x0]
    found = Mask.of(values)
    return Mask(found.values, found.y0 + y0 + top, found.x0 + x0 + left)


def curve(points: np.ndarray, *, sharp: Sequence[int] = (), steps: int = 12) -> np.ndarray:
    """A smooth closed outline through points [P, 2]: float [P * steps, 2].

    Catmull and Rom's spline (1974) with the spacing by chord lengths that keeps it free of loops (Yuksel, Schaefer and Keyser,
    2011). It bends at every point except those numbered in `sharp`, where it keeps a corner, as lips do at their ends.
    """
    points = np.asarray(points, np.float64)
    count, t = len(points), np.arange(steps)[:, None] / steps
    pieces = []
    for i in range(count):
        a, b, c, d = (points[(i + k) % count] for k in (-1, 0, 1, 2))
        if i in sharp:  # mirror the neighbour instead of looking round the corner
            a = 2 * b - c
        if (i + 1) % count in sharp:
            d = 2 * c - b
        ab, bc, cd = (max(float(np.linalg.norm(q - p)) ** 0.5, 1e-9) for p, q in ((a, b), (b, c), (c, d)))
        start = (b - a) / ab - (c - a) / (ab + bc) + (c - b) / bc
        end = (c - b) / bc - (d - b) / (bc + cd) + (d - c) / cd
        start, end = start * bc, end * bc
        pieces.append(b + t * start + t**2 * (3 * (c - b) - 2 * start - end) + t**3 * (start + end - 2 * (c - b)))
    return np.concatenate(pieces)


def _filled(outline: np.ndarray, grow: float, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Coverage float32 [y1 - y0, x1 - x0] of the pixels by a polygon: drawn larger and averaged down where memory allows."""
    height, width = y1 - y0, x1 - x0
    fine = int(np.clip(np.sqrt(6e6 / (height * width)), 1, 8))
    places = (outline - (x0, y0)) * fine - 0.5  # OpenCV counts from pixel centres
    canvas: np.ndarray = np.zeros((height * fine, width * fine), np.uint8)
    corners = [np.rint(np.clip(places, -(2**20), 2**20) * 256).astype(np.int32)]
    cv2.fillPoly(canvas, corners, 255, lineType=cv2.LINE_8, shift=8)
    if grow:
        thickness = int(np.clip(round(2 * abs(grow) * fine) - 1, 1, 32_000))  # lines come out up to one wider
        cv2.polylines(canvas, corners, True, 255 if grow > 0 else 0, thickness, cv2.LINE_8, 8)
    if fine > 1:
        canvas = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return canvas.astype(np.float32) / np.float32(255)
