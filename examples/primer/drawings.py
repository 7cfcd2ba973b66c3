"""Pictures drawn for the lessons: digits, little faces, and what looks a little like a face. All from a seed, no photographs."""

from __future__ import annotations

import cv2
import numpy as np
from neuron import Array

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


# ---- digits


def digits(count: int, seed: int = 0, shift: int = 0) -> tuple[Array, Array]:
    """Digits [count, 1, 28, 28], light on dark with some noise, values about 0..1, and which they are [count].

    shift  how far each is moved from the middle, in pixels, up, down, left or right
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    pictures = np.empty((count, 1, 28, 28))
    for i, label in enumerate(labels):
        font, thick = FONTS[rng.integers(len(FONTS))], int(rng.integers(4, 9))
        large = np.zeros((112, 112), np.uint8)
        (wide, high), _ = cv2.getTextSize(str(label), font, 2.4, thick)
        cv2.putText(large, str(label), (56 - wide // 2, 56 + high // 2), font, 2.4, 255, thick, cv2.LINE_AA)
        angle, size = rng.normal(0, 7), rng.uniform(0.22, 0.28)
        to = cv2.getRotationMatrix2D((56, 56), float(angle), float(size))
        move = ((0, shift), (0, -shift), (shift, 0), (-shift, 0))[int(rng.integers(4))]
        to[:, 2] += np.array([14 - 56, 14 - 56]) + move + rng.uniform(-0.7, 0.7, 2)
        pictures[i, 0] = cv2.warpAffine(large, to, (28, 28), flags=cv2.INTER_AREA) / 255
    return pictures + rng.normal(0, 0.08, pictures.shape), labels


# ---- little faces, 16 x 16

SIDE = 16


def draw_face(ground: Array, x: float, y: float, rng: np.random.Generator, kind: str = "face") -> None:
    """A face 16 x 16 whose upper left corner is at (x, y), onto a picture [H, W] in 0..1.

    kind  "face", or something of the same parts that is none: "upside down", "blank", "one eye", "no mouth"
    """
    skin, dark = rng.uniform(0.55, 0.95), rng.uniform(0.0, 0.25)
    middle, wide, high = (
        (x + 8 + rng.uniform(-0.5, 0.5), y + 8 + rng.uniform(-0.5, 0.5)),
        rng.uniform(5.2, 6.4),
        rng.uniform(6.4, 7.4),
    )
    up = -1 if kind == "upside down" else 1
    eye, apart, mouth = 1.6 + rng.uniform(-0.4, 0.4), 2.4 + rng.uniform(-0.4, 0.4), 3.4 + rng.uniform(-0.5, 0.5)
    blob(ground, middle, (wide, high), skin)
    if kind == "blank":
        return
    first = 1 if kind == "one eye" else 0
    for side in (-1, 1)[first:]:
        blob(ground, (middle[0] + side * apart, middle[1] - up * eye), (1.0, 0.9), dark)
    if kind != "no mouth":
        blob(ground, (middle[0], middle[1] + up * mouth), (rng.uniform(2.0, 2.8), 0.75), dark)


def blob(ground: Array, middle: tuple[float, float], radii: tuple[float, float], value: float) -> None:
    """An ellipse with a soft edge, one pixel wide."""
    ys, xs = np.mgrid[: ground.shape[0], : ground.shape[1]]
    away = np.hypot((xs + 0.5 - middle[0]) / radii[0], (ys + 0.5 - middle[1]) / radii[1])
    cover = ((1 - away) * min(radii) + 0.5).clip(0, 1)
    ground += cover * (value - ground)


def clutter(height: int, width: int, rng: np.random.Generator) -> Array:
    """A background [height, width]: soft light and some edges."""
    ground = cv2.resize(rng.uniform(0.1, 0.8, (2 + height // 24, 2 + width // 24)), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 3 + height * width // 1500))):
        a, b = rng.uniform(0, [width, height]), rng.uniform(0, [width, height])
        value, thick = float(rng.uniform(0, 1)), int(rng.integers(1, 4))
        cv2.line(ground, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), value, thick, cv2.LINE_AA)
    return ground.clip(0, 1)


def little_faces(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Pictures [count, 1, 16, 16] in 0..1 with noise, and 1 for faces, 0 for the rest [count]. Half of them are faces.

    The others are backgrounds, the same parts in the wrong order or number, and faces that lie half outside.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pictures = np.empty((count, 1, SIDE, SIDE))
    for i, label in enumerate(labels):
        ground = clutter(SIDE, SIDE, rng)
        if label:
            draw_face(ground, *rng.uniform(-2.2, 2.2, 2), rng)
        else:
            kind = ("ground", "upside down", "blank", "one eye", "no mouth", "face")[int(rng.integers(6))]
            x, y = rng.uniform(-1, 1, 2) * (2 if rng.random() < 0.5 else 9)
            if kind == "face":  # too far off to be in this window
                angle = rng.uniform(0, 2 * np.pi)
                x, y = rng.uniform(5.5, 11) * np.array([np.cos(angle), np.sin(angle)])
            if kind != "ground":
                draw_face(ground, x, y, rng, kind)
        pictures[i, 0] = ground
    return pictures + rng.normal(0, 0.04, pictures.shape), labels


def crowd(seed: int = 3) -> tuple[Array, list[tuple[int, int]]]:
    """A scene [96, 160] with faces among their imitations, and the corners (x, y) of the faces."""
    rng = np.random.default_rng(seed)
    scene = clutter(96, 160, rng)
    kinds = ["face"] * 6 + ["upside down", "upside down", "blank", "blank", "one eye", "no mouth"]
    spots = [(x, y) for y in (6, 36, 68) for x in (8, 44, 82, 122)]
    corners = []
    for kind, spot in zip(kinds, rng.permutation(spots)):
        x, y = (int(v) for v in spot + rng.integers(-4, 5, 2))
        draw_face(scene, x, y, rng, kind)
        if kind == "face":
            corners.append((x, y))
    return scene + rng.normal(0, 0.04, scene.shape), corners
