"""A stand-in for the waist: quick faces without networks. `python tests/apps/faked.py ARGUMENTS` is the command with it.

A photo's first pixel says what happens: black has no face, (N, 0, 1) has N faces, (0, 0, 2) makes the network fail, all others
have one face. With VISAGIST_TEST_PAUSE set, painting waits that many seconds, so that a test can stop the command half-way.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from visagist import api, catalog
from visagist.photo.face import Face, Pose, by_falling_area
from visagist.photo.photo import Photo, Step

calls: dict[str, int] = {}


def detect(photo: Photo, *, model: str = "yolo", min_score: float = 0.5, device: str = "auto") -> tuple[Face, ...]:
    calls["detect"] = calls.get("detect", 0) + 1
    r, g, b = (int(v) for v in photo.pixels[0, 0])
    if (r, g, b) == (0, 0, 2):
        raise ZeroDivisionError("a network fell over")
    count = 0 if (r, g, b) == (0, 0, 0) else r if (g, b) == (0, 1) else 1
    height, width = photo.size
    side = min(height, width) / 2
    boxes = [(i * 3.0, i * 2.0, i * 3.0 + side / (i + 1), i * 2.0 + side / (i + 1)) for i in range(count)]
    return by_falling_area([Face(box, score=0.9) for box in boxes])


def landmarks(
    photo: Photo, faces: Sequence[Face] | None = None, *, model: str = "landmarks68", device: str = "auto"
) -> tuple[Face, ...]:
    calls["landmarks"] = calls.get("landmarks", 0) + 1
    found = []
    for face in detect(photo) if faces is None else faces:
        x0, y0, x1, y1 = face.box
        grid = np.stack([np.linspace(x0, x1, 68), np.linspace(y0, y1, 68)], 1)
        found.append(Face(face.box, score=face.score, points=grid, scheme="ibug68", pose=Pose(3.1, -2.0, 0.4)))
    return tuple(found)


def makeup(photo: Photo, *, faces: Sequence[Face] | None, finish: str, face: int | str = "all", **more: Any) -> Photo:
    calls["makeup"] = calls.get("makeup", 0) + 1
    time.sleep(float(os.environ.get("VISAGIST_TEST_PAUSE", "0")))
    chosen = api.choose(faces or (), face)
    pixels = photo.pixels.copy()
    for one in chosen:
        x, y = (int(v) for v in one.box[:2])
        pixels[max(y, 0) : y + 5, max(x, 0) : x + 5] = 200, 20, 40
    return photo.edited(pixels, Step("makeup", "fake", "0" * 12, {"finish": finish}))


class Loaded:
    """As much of `catalog.Loaded` as the commands look at."""

    class system:
        name = "fake"

    class card:
        sha256 = "0" * 64


FAKES = {(api, "detect"): detect, (api, "landmarks"): landmarks, (api, "makeup"): makeup, (catalog, "load"): lambda *a, **k: Loaded}

if __name__ == "__main__":
    for (module, name), fake in FAKES.items():
        setattr(module, name, fake)
    from visagist.apps.cli import main

    sys.exit(main(sys.argv[1:]))
