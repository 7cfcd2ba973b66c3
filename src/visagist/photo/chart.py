"""Answers as pictures: bars of probabilities under a photo, a heat map laid over it, a table of which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from visagist.photo.draw import BOX, INK, PAPER, text_on

TRACK = (226, 226, 222)  # the part of a bar that is empty
LEAST = 320  # smaller photos are enlarged to this width, or the names under them could not be read


def answered(pixels: np.ndarray, classes: Sequence[tuple[str, float]]) -> np.ndarray:
    """A photo with names and bars under it: pixels uint8 [H, W, 3], classes (name, probability). Returns uint8 [H', W', 3]."""
    if pixels.shape[1] < LEAST:
        times = -(-LEAST // pixels.shape[1])
        if pixels.shape[0] * times <= 20 * LEAST:  # a strip one pixel wide stays a strip
            pixels = np.repeat(np.repeat(pixels, times, 0), times, 1)
    width = max(pixels.shape[1], LEAST)
    size = int(np.clip(width // 26, 12, 64))
    row, gap = round(1.7 * size), size // 2
    out = np.empty((pixels.shape[0] + row * len(classes) + 2 * gap, width, 3), np.uint8)
    out[:] = PAPER
    left = (width - pixels.shape[1]) // 2
    out[: pixels.shape[0], left : left + pixels.shape[1]] = pixels
    x0, x1 = round(0.42 * width), width - 4 * size
    for i, (name, share) in enumerate(classes):
        y = pixels.shape[0] + gap + row * i + row // 2
        text_on(out, name, size, (x0 - size // 2, y), anchor="right")
        half = max(2, size // 3)
        out[y - half : y + half, x0:x1] = TRACK
        out[y - half : y + half, x0 : x0 + round(share * (x1 - x0))] = BOX if i else INK
        text_on(out, f"{share:.0%}", size, (x1 + size // 2, y))
    return out


def lit(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The photo as it is where `heat` is 1, grey and dark where it is 0: pixels uint8 [H, W, 3], heat float [H, W] in [0, 1]."""
    grey = pixels.mean(2, keepdims=True, dtype=np.float32) * 0.3 + np.array([8, 10, 26], np.float32)
    weight = np.clip(heat, 0, 1)[..., None].astype(np.float32)
    mixed: np.ndarray = np.rint(grey + weight * (pixels - grey)).astype(np.uint8)
    return mixed


def matrix(counts: np.ndarray, names: Sequence[str], *, cell: int | None = None) -> np.ndarray:
    """A confusion matrix as a picture: rows are what pictures show, columns what they were taken for; uint8 [H, W, 3].

    counts  int [K, K]. A cell's colour is its share of the row: blue what was right, red what was not
    cell    side of a cell in pixels; None for one that fits about 900 pixels. Numbers are written where there is room for them
    """
    count = len(names)
    side = cell or int(np.clip(660 // count, 6, 60))
    size = int(np.clip(side // 3, 8, 18))
    margin = round(0.62 * size * max(len(name) for name in names)) + 2 * size if side >= 12 else size
    out = np.empty((margin + count * side + 2 * size, margin + count * side + 2 * size, 3), np.uint8)
    out[:] = PAPER
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for i in range(count):
        for j in range(count):
            colour = np.array((0, 114, 178) if i == j else (213, 94, 0))  # told apart also by who sees red and green alike
            depth = float(shares[i, j]) if i == j else min(1.0, 5 * float(shares[i, j]))
            y, x = margin + i * side, margin + j * side
            out[y : y + side - 1, x : x + side - 1] = np.rint(np.array(PAPER) * (1 - depth) + colour * depth)
            if side >= 24 and counts[i, j]:
                text_on(out, str(int(counts[i, j])), size, (x + side // 2, y + side // 2), anchor="middle")
        if side >= 12:
            text_on(out, names[i], size, (margin - size // 2, margin + i * side + side // 2), anchor="right")
            word = round(0.31 * size * len(names[i]))
            text_on(out, names[i], size, (margin + i * side + side // 2, margin - size // 2 - word), anchor="middle", upward=True)
    if side >= 12:
        text_on(out, "taken for", size, (margin + count * side // 2, margin + count * side + size), anchor="middle")
        text_on(out, "shows", size, (margin + count * side + size, margin + count * side // 2), anchor="middle", upward=True)
    return cv2.copyMakeBorder(out, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=PAPER)
