"""Drawn mouths with known points, and a made-up set of triples: the fixture `drawn` hands out this file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType

import numpy as np
import pytest

from visagist.photo.blend import polygon_mask
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item

SKIN, LIP, TEETH = (205, 160, 140), (170, 90, 95), (235, 230, 220)
# points 48-67 of a mouth of width 2 about its middle; the second number is down
OUTER = [(-1, 0), (-0.62, -0.26), (-0.2, -0.4), (0, -0.34), (0.2, -0.4), (0.62, -0.26), (1, 0)]
OUTER += [(0.6, 0.34), (0.25, 0.47), (0, 0.49), (-0.25, 0.47), (-0.6, 0.34)]
INNER_X = [-0.86, -0.4, 0.0, 0.4, 0.86, 0.4, 0.0, -0.4]


def points(centre: tuple[float, float], width: float, *, opening: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """68 points [68, 2], all but the mouth's lying where a face would have its outline.

    opening: height between the lips over the mouth's width, the outer lips move apart with it; roll in degrees, clockwise.
    """
    outer = np.array(OUTER, float)
    outer[:, 1] += np.sign(outer[:, 1]) * opening
    side = np.array([0, -1, -1.1, -1, 0, 1, 1.1, 1])
    inner = np.stack([INNER_X, side * opening], 1)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    others = np.stack([2 * np.cos(angle), -1.5 + 2.6 * np.sin(angle)], 1)
    c, s = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    return np.concatenate([others, outer, inner]) * (width / 2) @ np.array([[c, s], [-s, c]]) + centre


def face(centre: tuple[float, float], width: float, **more: float) -> Face:
    return Face.of_points(points(centre, width, **more))


def picture(size: tuple[int, int], faces: list[Face], *, grain: float = 0.0, lip: tuple[int, int, int] = LIP) -> np.ndarray:
    """Skin with lips and teeth where the faces have them: uint8 [H, W, 3]."""
    out = np.full((*size, 3), SKIN, np.float32)
    for one in faces:
        lips = polygon_mask(one.outer_lips, size, feather=0.8).full(size)[..., None]
        teeth = polygon_mask(one.inner_lips, size).full(size)[..., None]
        out += lips * (np.array(lip, np.float32) - out)
        out += teeth * (np.array(TEETH, np.float32) - out)
    noise = np.random.default_rng(0).normal(0, grain, size)[..., None] if grain else 0.0
    return np.clip(np.rint(out + noise), 0, 255).astype(np.uint8)


def triples(count: int, seed: int = 0) -> list[Item]:
    """Made-up mouths: lips on skin of random colours; make-up is a map of colours inside the lips, as in the real sets."""
    rng = np.random.default_rng(seed)
    items = []
    for index in range(count):
        mouth = face((45, 15), 88)
        inside = polygon_mask(mouth.outer_lips, (30, 90)).full((30, 90))[..., None]
        skin, lip = rng.uniform(120, 230, 3), rng.uniform(80, 180, 3) * (1.1, 0.7, 0.7)
        bare = skin + inside * (lip - skin) + rng.normal(0, 4, (30, 90, 1))
        targets = {
            "glazed": bare + inside * (bare * (0.1, -0.6, -0.6) + (30, 0, 0)),
            "glossy": bare + inside * (bare * 0.1 + (20, 10, 12)),
        }
        items.append(item(f"{index:03}", bare, targets))
    return items


def item(name: str, bare: np.ndarray, targets: Mapping[str, np.ndarray]) -> Item:
    def of(values: np.ndarray) -> Photo:
        return Photo.of(np.clip(np.rint(values), 0, 255).astype(np.uint8))

    photo, painted = of(bare), {finish: of(values) for finish, values in targets.items()}
    return Item(name, lambda: photo, targets={finish: (lambda p=p: p) for finish, p in painted.items()})


@pytest.fixture(scope="session")
def drawn() -> ModuleType:
    return sys.modules[__name__]
