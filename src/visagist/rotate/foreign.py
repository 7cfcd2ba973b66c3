"""What lies on the fitted face in a photo but is none of it: a strip of background, hair or collar within the fitted outline.

Paper   Gastal, Oliveira 2011 (the filter of `rotate.spread`).
Input   a photo, the fitted face drawn in it (`head.render`).
Output  how far each pixel of the face is something else, 0..1.
Read    foreign.

The fitted outline lies a little beside the real one. Each pixel near it belongs to that with which it is better connected, by a way
over fewer edges of the picture: the face well within the outline, or what is well outside.
"""

from __future__ import annotations

import cv2
import numpy as np

from visagist.head.render import Raster
from visagist.rotate.inner import whole
from visagist.rotate.spread import spread

FINE = 40.0  # pixels between the eyes at which it is looked at, at most
WITHIN = 0.30  # so far within the outline, in distances between the eyes, everything is face
BEYOND = 0.10  # so far outside it nothing is...
AROUND = 0.40  # ...and so much of that is looked at
REACH = 1.0  # a way so long, in distances between the eyes, separates as much as...
EDGE = 0.2  # ...a step of the picture by so much, summed over three channels in 0..1
LEAST = 0.30  # share of the face in what reaches a pixel, below which it begins to be something else...
SURE = 0.15  # ...and is, so much lower


def foreign(picture: np.ndarray, source: Raster, apart: float) -> np.ndarray:
    """How far the pixels of a face are none of it, float32 [H, W], 0..1; 0 beside the face.

    picture  uint8 [H, W, 3]
    source   the fitted face as it stands there
    apart    the distance between the eyes of the mean face, in pixels
    """
    everywhere = whole(source.covered)
    found = np.zeros(everywhere.shape, np.float32)
    x, y, width, height = cv2.boundingRect(everywhere.astype(np.uint8))
    reach = round(AROUND * apart)
    part = slice(max(0, y - reach), y + height + reach), slice(max(0, x - reach), x + width + reach)
    face, picture = everywhere[part], picture[part]
    factor = min(1.0, FINE / apart)
    size = max(2, round(face.shape[1] * factor)), max(2, round(face.shape[0] * factor))
    small = cv2.resize(face.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    unit = apart * size[0] / face.shape[1]
    deep, off = (cv2.distanceTransform(mask, cv2.DIST_L2, 5) / unit for mask in (small, 1 - small))
    inner, outer = deep > WITHIN, off > BEYOND
    if not inner.any() or not outer.any():
        return found
    seen = cv2.GaussianBlur(cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255, (0, 0), 0.8)
    share, _ = spread(inner.astype(np.float64), inner | outer, seen, REACH * unit, EDGE)
    other = np.clip((LEAST - share) / SURE, 0, 1).astype(np.float32)
    other = cv2.dilate(other, np.ones((3, 3), np.uint8)) * small  # what lies at an edge is mixed
    found[part] = cv2.resize(other, face.shape[::-1], interpolation=cv2.INTER_LINEAR) * face
    return found
