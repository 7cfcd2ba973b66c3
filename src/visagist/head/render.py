"""Draw a surface without a graphics card: which triangle is seen at each pixel, and what follows from that.

    seen = rasterise(placed, triangles, (480, 640))   # z-buffer: triangle and barycentric weights at every pixel
    seen.spread(colours)                              # any quantity of the vertices as a picture
    harmonic(values, known)                           # the smoothest picture that keeps the known pixels

Places are those of `Fit.placed`: x, y in pixels (the centre of pixel i is i + 0.5), z growing away from the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    corners = placed[triangles]  # [F, 3, 3]
    flat = corners[:, :, :2]
    area = _cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])
    low = np.maximum(np.ceil(flat.min(1) - 0.5), 0).astype(np.int64)  # first pixel centre within
    high = np.minimum(np.floor(flat.max(1) - 0.5), (width - 1, height - 1)).astype(np.int64)
    spans = high - low + 1
    drawn = np.flatnonzero((area < -1e-9) & (spans > 0).all(1))  # y down: what faces the viewer turns the other way
    nearest = np.full(height * width, np.iinfo(np.int64).max)
    depths = corners[drawn, :, 2]
    start, reach = (float(depths.min()), float(np.ptp(depths))) if len(drawn) else (0.0, 1.0)
    step = (2**30) / max(reach, 1e-9)
    boxes = spans[drawn].prod(1)
    ends = np.searchsorted(np.cumsum(boxes), np.arange(CHUNK, boxes.sum() + CHUNK, CHUNK), side="right")
    for first, last in zip([0, *ends], [*ends, len(drawn)], strict=True):
        part = drawn[first:last]
        if not len(part):
            continue
        of, x, y = _pixels(low[part], spans[part])
        number = part[of]
        weights = _weights(flat[number], area[number], x, y)
        inside = (weights >= -1e-9).all(1)
        number, weights = number[inside], weights[inside]
        depth = (weights * corners[number, :, 2]).sum(1)
        key = (np.clip((depth - start) * step, 0, 2**30).astype(np.int64) << 32) | number
        np.minimum.at(nearest, y[inside] * width + x[inside], key)
    hit = np.flatnonzero(nearest != np.iinfo(np.int64).max)
    number = nearest[hit] & 0xFFFFFFFF
    triangle = np.full(height * width, -1, np.int32)
    triangle[hit] = number
    weights = _weights(flat[number], area[number], hit % width, hit // width)
    all_weights = np.zeros((height * width, 3), np.float32)
    all_weights[hit] = weights
    depth = np.full(height * width, np.inf, np.float32)
    depth[hit] = (weights * corners[number, :, 2]).sum(1)
    shape = (height, width)
    return Raster(triangle.reshape(shape), all_weights.reshape(*shape, 3), depth.reshape(shape), triangles)


def _pixels(low: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel of every box: which box, x, y. low, spans int [B, 2]."""
    counts = spans.prod(1)
    of = np.repeat(np.arange(len(counts)), counts)
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return of, low[of, 0] + inside % spans[of, 0], low[of, 1] + inside // spans[of, 0]


def _weights(flat: np.ndarray, area: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Barycentric weights [P, 3] of pixel centres in triangles flat [P, 3, 2] of these signed (double) areas."""
    at = np.stack([x + 0.5, y + 0.5], axis=1)
    first = _cross(flat[:, 1] - at, flat[:, 2] - at) / area
    second = _cross(flat[:, 2] - at, flat[:, 0] - at) / area
    return np.stack([first, second, 1 - first - second], axis=1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    crossed: np.ndarray = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return crossed


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
