"""Draw a surface without a graphics card: which triangle is seen at each pixel, and what follows from that.

    seen = rasterise(placed, triangles, (480, 640))   # z-buffer: triangle and barycentric weights at every pixel
    seen.spread(colours)                              # any quantity of the vertices as a picture
    harmonic(values, known)                           # the smoothest picture that keeps the known pixels

Places are those of `Fit.placed`: x, y in pixels (the centre of pixel i is i + 0.5), z growing away from the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

CHUNK = 1 << 21  # pixels of triangles' boxes that are looked at together


@dataclass(frozen=True, eq=False)
class Raster:
    """triangle int32 [H, W], -1 where nothing is seen; weights float32 [H, W, 3] of its corners, depth float32 [H, W], inf where
    nothing is seen; triangles int [F, 3] that were drawn."""

    triangle: np.ndarray
    weights: np.ndarray
    depth: np.ndarray
    triangles: np.ndarray

    @property
    def covered(self) -> np.ndarray:
        """bool [H, W]"""
        return self.triangle >= 0

    def spread(self, values: np.ndarray) -> np.ndarray:
        """A quantity of the vertices [N, C] as a picture float32 [H, W, C], 0 where nothing is seen."""
        out = np.zeros((*self.triangle.shape, values.shape[1]), np.float32)
        where = np.nonzero(self.covered)
        corners = self.triangles[self.triangle[where]]  # [P, 3]
        weights = self.weights[where]
        out[where] = sum(weights[:, i, None] * values[corners[:, i]].astype(np.float32) for i in range(3))
        return out


def rasterise(placed: np.ndarray, triangles: np.ndarray, size: tuple[int, int]) -> Raster:
    """What is seen of a surface: placed float [N, 3]; triangles int [F, 3], their backs are not drawn; size (height, width).

    A pixel shows the nearest triangle that holds its centre; of two at one depth the one with the lower number.
    """
    height, width = size
    a, b, c = (Corner.of(placed, triangles[:, i]) for i in range(3))
    area = (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)  # doubled
    left = np.maximum(np.ceil(np.minimum(np.minimum(a.x, b.x), c.x) - 0.5), 0).astype(np.int64)  # first pixel centre within
    top = np.maximum(np.ceil(np.minimum(np.minimum(a.y, b.y), c.y) - 0.5), 0).astype(np.int64)
    wide = np.minimum(np.floor(np.maximum(np.maximum(a.x, b.x), c.x) - 0.5), width - 1).astype(np.int64) - left + 1
    high = np.minimum(np.floor(np.maximum(np.maximum(a.y, b.y), c.y) - 0.5), height - 1).astype(np.int64) - top + 1
    drawn = np.flatnonzero((area < -1e-9) & (wide > 0) & (high > 0))  # y down: what faces the viewer turns the other way
    nearest = np.full(height * width, np.iinfo(np.int64).max)
    depths = placed[triangles[drawn], 2]
    start, reach = (float(depths.min()), float(np.ptp(depths))) if len(drawn) else (0.0, 1.0)
    step = (2**30) / max(reach, 1e-9)
    sizes = (wide * high)[drawn]
    ends = np.searchsorted(np.cumsum(sizes), np.arange(CHUNK, sizes.sum() + CHUNK, CHUNK), side="right")
    for first, last in zip([0, *ends], [*ends, len(drawn)], strict=True):
        part = drawn[first:last]
        if not len(part):
            continue
        corners = a.some(part), b.some(part), c.some(part)
        of, x, y, depth = _inside(corners, area[part], left[part], top[part], wide[part], high[part])
        key = (np.clip((depth - start) * step, 0, 2**30).astype(np.int64) << 32) | part[of]
        np.minimum.at(nearest, y * width + x, key)
    hit = np.flatnonzero(nearest != np.iinfo(np.int64).max)
    number = nearest[hit] & 0xFFFFFFFF
    triangle = np.full(height * width, -1, np.int32)
    triangle[hit] = number
    corners = a.some(number), b.some(number), c.some(number)
    weights = _weights(corners, area[number], hit % width, hit // width)
    all_weights = np.zeros((height * width, 3), np.float32)
    for i, values in enumerate(weights):
        all_weights[hit, i] = values
    depth = np.full(height * width, np.inf, np.float32)
    depth[hit] = sum(values * corner.z for values, corner in zip(weights, corners, strict=True))
    shape = (height, width)
    return Raster(triangle.reshape(shape), all_weights.reshape(*shape, 3), depth.reshape(shape), triangles)


class Corner(NamedTuple):
    """One corner of each triangle, float [F] each."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @classmethod
    def of(cls, placed: np.ndarray, vertices: np.ndarray) -> Corner:
        return cls(*(np.ascontiguousarray(placed[:, axis])[vertices] for axis in range(3)))

    def some(self, which: np.ndarray) -> Corner:
        return Corner(self.x[which], self.y[which], self.z[which])


Corners = tuple[Corner, Corner, Corner]


def _inside(
    corners: Corners, area: np.ndarray, left: np.ndarray, top: np.ndarray, wide: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel centre inside triangles with these boxes of pixels: which triangle, x, y, depth; [P] each.

    Weights and depth are linear over a triangle. So along each row of its box the pixels inside are one span, whose ends follow
    from where the three weights become negative: nothing outside is looked at.
    """
    a, b, c = corners
    first, second, _ = _weights(
        corners, area, left, top
    )  # at the box's first pixel; then how much a step to the right or down adds
    right1, down1 = (b.y - c.y) / area, (c.x - b.x) / area
    right2, down2 = (c.y - a.y) / area, (a.x - c.x) / area

    rows = np.repeat(np.arange(len(area)), high)
    down = _counted(high)
    at1, at2 = first[rows] + down1[rows] * down, second[rows] + down2[rows] * down
    along1, along2 = right1[rows], right2[rows]
    begin, end = np.zeros(len(rows)), (wide - 1.0)[rows]
    for at, along in ((at1, along1), (at2, along2), (1 - at1 - at2, -along1 - along2)):
        with np.errstate(divide="ignore", invalid="ignore"):
            edge = -(at + 1e-9) / along
        begin = np.where(along > 0, np.maximum(begin, edge), begin)
        end = np.where(along < 0, np.minimum(end, edge), end)
        end = np.where((along == 0) & (at < -1e-9), -1.0, end)
    begin, end = np.ceil(begin - 1e-12), np.floor(end + 1e-12)
    held = np.flatnonzero(end >= begin)
    rows, down, at1, at2, along1, along2 = rows[held], down[held], at1[held], at2[held], along1[held], along2[held]
    begin, count = begin[held].astype(np.int64), (end - begin)[held].astype(np.int64) + 1
    d1, d2 = (a.z - c.z)[rows], (b.z - c.z)[rows]
    depth, slope = c.z[rows] + d1 * at1 + d2 * at2, d1 * along1 + d2 * along2
    per = np.repeat(np.arange(len(rows)), count)
    along = _counted(count) + begin[per]
    return rows[per], left[rows][per] + along, (top[rows] + down)[per], depth[per] + slope[per] * along


def _counted(counts: np.ndarray) -> np.ndarray:
    """0 .. n - 1 for each n of counts, one after another."""
    counted: np.ndarray = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return counted


def _weights(corners: Corners, area: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Barycentric weights [P] of pixel centres in triangles of these signed (double) areas."""
    a, b, c = corners
    px, py = x + 0.5, y + 0.5
    first = ((b.x - px) * (c.y - py) - (b.y - py) * (c.x - px)) / area
    second = ((c.x - px) * (a.y - py) - (c.y - py) * (a.x - px)) / area
    return first, second, 1 - first - second


def harmonic(values: np.ndarray, known: np.ndarray, *, sweeps: int = 30) -> np.ndarray:
    """The picture that keeps the known pixels and is as smooth as can be elsewhere (Laplace's equation).

    values  float32 [H, W, C], C from 1 to 4; known bool [H, W]. At the picture's edge the slope is 0.
    Solved from coarse to fine: half the size first, then `sweeps` of averaging over the four neighbours.
    """
    values = np.ascontiguousarray(values, np.float32)
    height, width = known.shape
    if known.all():
        return values.copy()
    if not known.any():
        return np.zeros_like(values)
    kept = known[..., None]
    if min(height, width) <= 2:
        mean = values[known].mean(0)
        return np.where(kept, values, mean).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    share = cv2.resize(known.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(np.where(kept, values, 0), half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], -1)
    coarse = harmonic(sums / np.maximum(share, 1e-6)[..., None], share > 1e-3, sweeps=sweeps)
    filled = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
    free = np.repeat(np.where(kept, np.float32(0), np.float32(1)), values.shape[2], axis=2)
    fixed = np.where(kept, values, np.float32(0))
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
    for sweep in range(sweeps + 1):
        if sweep:
            filled = cv2.filter2D(filled, -1, cross, borderType=cv2.BORDER_REPLICATE).reshape(height, width, -1)
        filled *= free  # with the next line: known pixels are put back; quicker than by a mask
        filled += fixed
    return filled
