"""What stands behind rendered people: studio walls, rooms, gardens and skies out of focus, all made up."""

from __future__ import annotations

import cv2
import numpy as np


def backdrop(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A picture uint8 [H, W, 3] without any face."""
    kind = rng.random()
    made = _gradient(rng, size)
    if kind < 0.22:
        return made
    if kind < 0.45:
        return _clouds(rng, made, 0.15 + 0.5 * rng.random())
    made = _things(rng, made, int(rng.integers(6, 40)))
    if kind < 0.8:  # out of focus
        made = cv2.GaussianBlur(made, (0, 0), float(rng.uniform(0.01, 0.06)) * max(size))
    return _clouds(rng, made, 0.3 * rng.random())


def _tone(rng: np.random.Generator) -> np.ndarray:
    """A colour as rooms and gardens have them: mostly dull, sRGB [3]."""
    grey = rng.uniform(15, 240)
    dull: np.ndarray = grey + (rng.uniform(0, 255, 3) - 127) * rng.beta(1.0, 3.0)
    return dull


def _gradient(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Two or three near colours, flowing into each other."""
    height, width = size
    base = _tone(rng)
    few = (
        base
        + rng.normal(0, rng.uniform(4, 45), (int(rng.integers(2, 5)), int(rng.integers(2, 5)), 1))
        + rng.normal(0, 8, (1, 1, 3))
    )
    return cv2.resize(np.clip(few, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def _clouds(rng: np.random.Generator, picture: np.ndarray, strong: float) -> np.ndarray:
    """With spots of several sizes, as walls, leaves and skies have them."""
    height, width = picture.shape[:2]
    total = np.zeros((height, width, 3), np.float32)
    cells = int(rng.integers(2, 5))
    while cells < min(height, width) / 2:
        coarse = rng.standard_normal((cells, cells, 1)) + 0.3 * rng.standard_normal((cells, cells, 3))
        total += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC) * cells**-0.45
        cells *= 2
    return np.clip(picture + strong * 55 * total, 0, 255).astype(np.uint8)


def _things(rng: np.random.Generator, picture: np.ndarray, count: int) -> np.ndarray:
    """Boards, balls, frames and blots in any colour."""
    made = picture.copy()
    height, width = made.shape[:2]
    for _ in range(count):
        colour = tuple(float(c) for c in (_tone(rng) if rng.random() < 0.5 else picture.mean((0, 1)) + rng.normal(0, 25, 3)))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        reach = rng.uniform(0.03, 0.35) * min(height, width)
        kind = rng.integers(4)
        if kind == 0:
            cv2.circle(made, (int(x), int(y)), int(reach), colour, -1, cv2.LINE_AA)
        elif kind == 1:
            high = reach * rng.uniform(0.3, 4)
            cv2.rectangle(
                made, (int(x - reach), int(y - high)), (int(x + reach), int(y + high)), colour, -1 if rng.random() < 0.7 else 3
            )
        elif kind == 2:
            turn = rng.uniform(0, 180)
            cv2.ellipse(
                made, (int(x), int(y)), (int(reach), int(reach * rng.uniform(0.05, 0.6))), turn, 0, 360, colour, -1, cv2.LINE_AA
            )
        else:
            corners = rng.normal((x, y), reach, (int(rng.integers(3, 8)), 2))
            cv2.fillPoly(made, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    return made
