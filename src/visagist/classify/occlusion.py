"""What an answer rests on: each part of the picture is hidden in turn, and the answer falls most where it looked.

Paper   Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, section 4.2 (occlusion).
Input   a picture uint8 [32, 32, 3] and the network as a function: pictures uint8 [N, 32, 32, 3] -> probabilities [N, K].
Output  float32 [32, 32]: how much the log-odds of a class fall, on average, when a window over the pixel is hidden.
Differs the window is not grey, which a network may take for a thing of its own, but shows the picture strongly blurred. Gradients,
        the usual alternative, say what a network would answer to changes too small to see; on 32 pixels they are mostly noise.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

WINDOW = 8  # side of what is hidden, in pixels of the 32 x 32
STRIDE = 2
BLUR = 6.0  # standard deviation in the same pixels


def falls(answers: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, label: int) -> np.ndarray:
    """The map for class `label`; 17 x 17 hidden windows are answered in one batch, and windows may reach over the border."""
    height, width = picture.shape[:2]
    blurred = cv2.GaussianBlur(picture, (0, 0), BLUR, borderType=cv2.BORDER_REFLECT)
    corners = [
        (top, left)
        for top in range(STRIDE - WINDOW, height, STRIDE)
        for left in range(STRIDE - WINDOW, width, STRIDE)
    ]  # fmt: skip
    pictures = np.repeat(picture[None], len(corners) + 1, 0)  # the last one whole
    rooms = [(slice(max(0, top), top + WINDOW), slice(max(0, left), left + WINDOW)) for top, left in corners]
    for hidden, room in zip(pictures, rooms):
        hidden[room] = blurred[room]
    odds = np.clip(answers(pictures)[:, label], 1e-6, 1 - 1e-6)
    odds = np.log(odds / (1 - odds))
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for room, fall in zip(rooms, odds[-1] - odds[:-1]):
        total[room] += fall
        count[room] += 1
    return (total / count).astype(np.float32)
