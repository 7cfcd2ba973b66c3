"""Move an outline to where the colours change. NumPy and OpenCV only.

Landmarks are some hundredths of a mouth's width off, and deciding pixel by pixel gives ragged lips. So the outline moves as a
whole: at every place along it, it may shift along its normal, to where what lies inside looks most like inside and what lies
outside like outside; neighbouring places must shift alike. The best such outline is found exactly, by dynamic programming
(Amini, Weymouth and Jain: Using dynamic programming for solving variational problems in vision, PAMI 1990).
"""

from __future__ import annotations

import cv2
import numpy as np

STEPS = 14  # shifts tried on either side
PRIOR = 6.0  # cost of a shift by half the reach
SMOOTH = 2.0  # cost of neighbours that differ by one step


def shifts(outline: np.ndarray, says: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """How far each place of a closed outline should move outwards, and which way outwards is.

    outline  float [K, 2], a smooth closed curve in pixels of the picture
    says     float32 [h, w], log-likelihood ratios, positive where a pixel looks like inside
    reach    largest shift in pixels
    Returns shifts float [K] and unit normals [K, 2].
    """
    normals = _normals(outline)
    steps = np.arange(-STEPS, STEPS + 1)
    places = outline[:, None] + (steps * reach / STEPS)[None, :, None] * normals[:, None]  # [K, S, 2]
    at = (places - 0.5).astype(np.float32)
    heard = cv2.remap(says, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # [K, S]
    # a boundary at step j: what lies before it should say inside, from it on outside
    before = np.cumsum(heard, 1) - heard
    cost = -(2 * before - heard.sum(1, keepdims=True)) + PRIOR * (steps / (STEPS / 2)) ** 2
    chosen = steps[_cheapest(cost)] * reach / STEPS
    return _smoothed(chosen), normals


def _cheapest(cost: np.ndarray) -> np.ndarray:
    """The steps [K] around the closed outline with the least cost [K, S] plus cost of differences."""
    count, width = cost.shape
    order = np.arange(-(count // 2), count + count // 2) % count  # twice around; the middle does not feel the loose ends
    differ = SMOOTH * (np.arange(width)[:, None] - np.arange(width)[None, :]) ** 2
    total, came = cost[order[0]].copy(), np.zeros((len(order), width), np.int64)
    for i, k in enumerate(order[1:], 1):
        ways = total[None, :] + differ  # [to, from]
        came[i] = ways.argmin(1)
        total = ways[np.arange(width), came[i]] + cost[k]
    step = int(total.argmin())
    path = np.empty(len(order), np.int64)
    for i in range(len(order) - 1, -1, -1):
        path[i] = step
        step = int(came[i, step])
    return path[count // 2 : count // 2 + count]


def _normals(outline: np.ndarray) -> np.ndarray:
    """Unit vectors [K, 2] that point out of the outline."""
    along = np.roll(outline, -1, 0) - np.roll(outline, 1, 0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    normals = np.stack([along[:, 1], -along[:, 0]], 1)
    following = np.roll(outline, -1, 0)
    area = float((outline[:, 0] * following[:, 1] - following[:, 0] * outline[:, 1]).sum())
    return normals if area > 0 else -normals


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Slightly smoothed around the closed outline."""
    kernel = (0.05, 0.1, 0.2, 0.3, 0.2, 0.1, 0.05)
    out: np.ndarray = sum(w * np.roll(values, i - 3) for i, w in enumerate(kernel))  # type: ignore[assignment]
    return out
