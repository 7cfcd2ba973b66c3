"""Boxes x0, y0, x1, y1 in continuous picture coordinates, half-open; arrays of them are float [N, 4]. NumPy only."""

from __future__ import annotations

import numpy as np

Box = tuple[float, float, float, float]


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas [N] of boxes [N, 4]; a box turned inside out has area 0."""
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    areas: np.ndarray = sides[..., 0] * sides[..., 1]
    return areas


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas of intersection [N, M] of every box of a [N, 4] with every box of b [M, 4]."""
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [N, M], 0..1; two empty boxes have 0."""
    common = overlap(a, b)
    union = area(a)[:, None] + area(b)[None, :] - common
    out: np.ndarray = np.divide(common, union, out=np.zeros_like(common, dtype=np.float64), where=union > 0)
    return out


def scaled(box: Box, factor: float) -> Box:
    """The box grown (factor > 1) or shrunk about its centre."""
    x0, y0, x1, y1 = box
    cx, cy, hw, hh = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2 * factor, (y1 - y0) / 2 * factor
    return cx - hw, cy - hh, cx + hw, cy + hh


def clipped(box: Box, size: tuple[int, int]) -> Box:
    """The part of the box inside a picture of size (height, width); may be empty, never inside out."""
    height, width = size
    x0, y0, x1, y1 = box
    x0, x1 = min(max(x0, 0.0), width), min(max(x1, 0.0), width)
    y0, y1 = min(max(y0, 0.0), height), min(max(y1, 0.0), height)
    return x0, y0, max(x0, x1), max(y0, y1)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, *, inside: float = 1.0) -> np.ndarray:
    """Greedy non-maximum suppression.

    Keeps the best box, drops those whose IoU with it exceeds `threshold` or that share more than `inside` of the smaller one's
    area with it (an eye taken for a face within a face), and goes on. Ties go to the lower index.
    boxes [N, 4], scores [N]; returns the kept indices, best first.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, areas = boxes[order], area(boxes[order])
    alive = np.ones(len(order), bool)
    for start in range(0, len(order), 256):  # blocks of rows, so that thousands of boxes need no square of memory
        rows = slice(start, start + 256)
        common = overlap(boxes[rows], boxes[start:])
        close = common > threshold * (areas[rows, None] + areas[None, start:] - common)
        if inside < 1:
            close |= common > inside * np.minimum(areas[rows, None], areas[None, start:])
        for i in np.flatnonzero(np.count_nonzero(close, 1) > 1).tolist():  # most boxes are close to themselves alone
            if alive[start + i]:
                alive[start + i + 1 :] &= ~close[i, i + 1 :]
    kept: np.ndarray = order[alive]
    return kept
