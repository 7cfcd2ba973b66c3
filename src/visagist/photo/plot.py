"""A plot of curves as a picture: two axes, a grid, a line for each name."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from visagist.photo.draw import INK, PAPER, Colour, text_on

GRID: Colour = (222, 222, 218)
# Told apart also by who sees red and green alike (Okabe and Ito, "Color Universal Design", 2008).
LINES: tuple[Colour, ...] = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
_SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel


def plot(
    at: np.ndarray,
    lines: Mapping[str, np.ndarray],
    *,
    across: str,
    up: str,
    top: float = 100.0,
    size: tuple[int, int] = (600, 860),
) -> np.ndarray:
    """Curves over one axis, with a legend under them.

    at      where the curves are known, rising, float [L]
    lines   name of a curve -> its values [L], from 0 to `top`; NaN leaves a gap
    across  what is written along the horizontal axis
    up      what is written along the vertical axis
    size    (height, width) of the plot in pixels; the legend adds a line for each curve
    Returns uint8 [H, W, 3].
    """
    height, width = size
    text = max(13, height // 36)
    left, right, above, below = 5 * text, 2 * text, 2 * text, 4 * text
    legend = round(1.7 * text) * len(lines) + text
    out = np.empty((height + legend, width, 3), np.uint8)
    out[:] = PAPER
    x0, x1, y0, y1 = left, width - right, height - below, above  # of the axes: origin at the bottom left
    low, high = float(at[0]), float(at[-1])

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of values."""
        return np.stack([x0 + (x - low) / (high - low) * (x1 - x0), y0 + y / top * (y1 - y0)], -1)

    for value in _ticks(low, high):
        x = round(float(place(np.array(value), np.array(0.0))[0]))
        cv2.line(out, (x, y0), (x, y1), GRID, 1)
        text_on(out, f"{value:g}", text, (x, y0 + text), anchor="middle")
    for value in _ticks(0, top):
        y = round(float(place(np.array(low), np.array(value))[1]))
        cv2.line(out, (x0, y), (x1, y), GRID, 1)
        text_on(out, f"{value:g}", text, (x0 - text // 2, y), anchor="right")
    cv2.rectangle(out, (x0, y1), (x1, y0), INK, 1)
    text_on(out, across, text, ((x0 + x1) // 2, y0 + round(2.6 * text)), anchor="middle")
    text_on(out, up, text, (round(1.2 * text), (y0 + y1) // 2), anchor="middle", upward=True)
    for i, (name, values) in enumerate(lines.items()):
        colour = LINES[i % len(LINES)]
        pixels = np.rint(place(at, np.clip(values, 0, top)) * 2**_SHIFT)
        known = np.isfinite(pixels).all(1)
        for a, b in zip(range(len(at) - 1), range(1, len(at)), strict=True):
            if known[a] and known[b]:
                ends = [(int(x), int(y)) for x, y in pixels[[a, b]]]
                cv2.line(out, ends[0], ends[1], colour, max(2, text // 7), cv2.LINE_AA, _SHIFT)
        row = height + round(1.7 * text) * i + text // 2
        cv2.line(out, (x0, row), (x0 + 2 * text, row), colour, max(3, text // 5), cv2.LINE_AA)
        text_on(out, name, text, (x0 + 3 * text, row))
    return out


def _ticks(low: float, high: float) -> list[float]:
    """Round values between the ends, at most eleven."""
    for step in (m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)):
        if (high - low) / step <= 10 + 1e-9:
            return [round(k * step, 6) for k in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]
    return [low, high]
