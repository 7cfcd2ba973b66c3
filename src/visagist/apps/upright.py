"""Does a photo lie on its side? The finder is asked again with the photo turned by quarters: upright faces it is surer of.

Of 522 upright photos (262 portraits, frames of 260 people) it was said of none; of the same photos lying on a side of 98 %, upside
down of 96 %, and but for one with the right way to turn them. In a fifth to a third of upright photos the finder is asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from visagist.photo.boxes import Box
    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

SURE = 0.92  # score of the finder from which on a face stands upright: four of five upright photos are asked no further
SURER = 0.03  # by so much a turned copy's score has to be higher...
SURELY = 0.75  # ...and so high: 99 of 100 upright faces have more
SAME = 0.3  # boxes that overlap by so much (intersection over union) are of one face
WAYS = {1: "a quarter to the left", 2: "half round", 3: "a quarter to the right"}  # by how many quarters to the left


def lying(photo: Photo, faces: Sequence[Face], device: str = "auto") -> str | None:
    """How to turn a photo that seems to lie on its side or head ("a quarter to the left"), or None.

    faces  those that the finder found in it; the surest of them tells, or where there are none any sure one of a turned copy
    """
    from visagist import api
    from visagist.photo.boxes import iou
    from visagist.photo.photo import Photo as Another

    best = max(faces, key=lambda face: face.score) if faces else None
    if best is not None and best.score >= SURE:
        return None
    own = 0.0 if best is None else best.score
    found = dict.fromkeys(WAYS, 0.0)
    for quarters in WAYS:
        copy = Another.of(np.ascontiguousarray(np.rot90(photo.pixels, quarters)))
        for face in api.detect(copy, device=device):
            if best is None or iou(*(np.array([box]) for box in (_back(face.box, quarters, photo.size), best.box)))[0, 0] > SAME:
                found[quarters] = max(found[quarters], face.score)
    way = max(found, key=lambda quarters: found[quarters])
    return WAYS[way] if found[way] > max(own + SURER, SURELY) else None


def _back(box: Box, quarters: int, size: tuple[int, int]) -> Box:
    """A box of the copy, turned by so many quarters to the left, in the photo of this size (height, width)."""
    height, width = size
    x0, y0, x1, y1 = box
    if quarters == 1:
        return width - y1, x0, width - y0, x1
    if quarters == 2:
        return width - x1, height - y1, width - x0, height - y0
    return y0, height - x1, y1, height - x0
