"""Measure shape from shading: `python benchmarks/shading.py [--data ICT_FACE.npz] [--count 20] [--sheet FILE]`.

Heads with known shape, albedo and light are drawn, their 68 points get noise of 1.5 % of the eyes' distance, and each picture
(8 bits, noise of 0.4 % of linear light) is worked on as a photo would be:

plain    skin of one albedo, as shape from shading wants it
skin     albedo that varies by 6 % smoothly and by 2 % from pore to pore, and lips a quarter darker
known    the same with that albedo given, as a picture of 8 bits
rough    the same with an albedo given that is blurred (3 pixels) and wrong by 3 %, smoothly
camera   plain, in light from the camera: nothing may change

Light comes from a random direction, its part within the picture from 0.2 to 0.5 where that from all around is 0.45 to 0.65. Shapes
are random faces of the full model with --data (100 modes of identity, 53 expressions), else of the bundled one with bumps that it
does not have.

Figures: mean angle between normals and mean error of depth, of the aligned reference, of the reference corrected by the shading
and of the relief; on how many heads the relief is worse than the aligned reference; how the photo is reproduced; seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

import cv2
import numpy as np

from visagist import catalog
from visagist.head.fit import annotated_points, fit, turn_of
from visagist.head.light import encoded, harmonics
from visagist.head.mesh import normals
from visagist.head.morphable import Morphable
from visagist.head.render import rasterise
from visagist.photo.draw import sheet
from visagist.photo.face import Pose
from visagist.photo.maps import normal_map
from visagist.photo.photo import Photo
from visagist.rotate.reference import Reference, drawn
from visagist.rotate.relief import Relief
from visagist.rotate.shading import Shading

SIZE, SCALE = (300, 280), 12.3  # of the pictures; pixels in a centimetre: 80 between the eyes
KINDS = ("plain", "skin", "known", "rough", "camera")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure shape from shading.")
    parser.add_argument("--data", help="ict_face.npz: heads of the full model")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--apart", type=int, nargs="+", default=[80])
    parser.add_argument("--sheet", help="draw photos, true normals, those of the reference and of the relief")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    args = parser.parse_args()
    loaded = catalog.load("morphable")
    model = loaded.recipe.model(loaded.nets)
    full = None if args.data is None else dict(np.load(args.data, allow_pickle=False))
    for apart in args.apart:
        for kind in args.kinds:
            rows, tiles = [], []
            for seed in range(args.count):
                head = draw(model, full, seed, kind)
                row, shown = measured(model, head, Shading(apart=apart))
                rows.append(row)
                tiles += shown
            print(json.dumps({"kind": kind, "apart": apart, **summary(np.array(rows))}), flush=True)
            if args.sheet:
                stem, _, ending = args.sheet.rpartition(".")
                Photo.of(sheet(tiles, [""] * len(tiles), columns=8, cell=(150, 140))).save(
                    f"{stem}_{kind}.{ending}", overwrite=True
                )


@dataclass(frozen=True, eq=False)
class Head:
    """A picture uint8 [H, W, 3] and what is true of it; known: its albedo as somebody gives it, or None."""

    pixels: np.ndarray
    points: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    covered: np.ndarray
    known: np.ndarray | None = None


def draw(model: Morphable, full: dict[str, np.ndarray] | None, seed: int, kind: str) -> Head:
    """The head of this seed."""
    rng = np.random.default_rng(seed)
    vertices = _shape(model, full, rng)
    turn = turn_of(Pose(rng.uniform(-15, 15), rng.uniform(-8, 8), rng.uniform(-5, 5)))
    placed = SCALE * vertices @ turn.T
    shift = np.array(SIZE[::-1]) / 2 - (placed[:, :2].min(0) + placed[:, :2].max(0)) / 2
    placed[:, :2] += shift
    seen = rasterise(placed, model.triangles, SIZE)
    at = seen.spread(normals(vertices, model.triangles) @ turn.T * (1, -1, -1)).astype(np.float64)
    at /= np.maximum(np.linalg.norm(at, axis=2, keepdims=True), 1e-9)
    where, strong = rng.uniform(0, 2 * np.pi), 0.0 if kind == "camera" else rng.uniform(0.2, 0.5)
    light = np.array([rng.uniform(0.45, 0.65), strong * np.cos(where), strong * np.sin(where), rng.uniform(0.25, 0.5)])
    points = SCALE * annotated_points(model, vertices, turn) @ turn[:2].T + shift
    albedo = _albedo(points, kind, rng)
    bright = np.where(seen.covered, albedo * np.maximum(harmonics(at, 1) @ light, 0), 0.2)
    bright += 0.004 * rng.standard_normal(SIZE)
    pixels = np.repeat(np.rint(encoded(bright)).astype(np.uint8)[..., None], 3, axis=2)
    points += rng.normal(0, 0.015 * 6.5 * SCALE, points.shape)
    return Head(pixels, points, np.where(seen.covered, -seen.depth, 0), at, seen.covered, _given(albedo, kind, seed))


def _shape(model: Morphable, full: dict[str, np.ndarray] | None, rng: np.random.Generator) -> np.ndarray:
    count = len(model.mean)
    if full is not None:
        weights = np.zeros(len(full["expression"]))
        still = [i for i, name in enumerate(full["expression_names"]) if not str(name).startswith("eyeLook")]
        weights[rng.choice(still, 3, replace=False)] = 0.3 * rng.random(3)
        identity, expression = (full[name][:, :count].astype(np.float64) for name in ("identity", "expression"))
        moved = np.tensordot(rng.standard_normal(len(identity)), identity, 1) + np.tensordot(weights, expression, 1)
        return full["neutral"][:count] + moved
    vertices = model.shape(rng.standard_normal(len(model.identity)), 0.5 * rng.standard_normal(len(model.expression)))
    centres = vertices[rng.integers(0, count, 14)]
    far = np.square(vertices[:, None] - centres).sum(2) / np.square(rng.uniform(0.6, 1.6, 14))
    return vertices + (np.exp(-far) @ rng.uniform(-0.15, 0.15, 14))[:, None] * normals(vertices, model.triangles)


def _albedo(points: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    albedo = np.full(SIZE, 0.7)
    if kind in ("skin", "known", "rough"):
        for sigma, share in ((12.0, 0.06), (1.2, 0.02)):
            spots = cv2.GaussianBlur(rng.standard_normal(SIZE), (0, 0), sigma)
            albedo *= 1 + share * spots / spots.std()
        lips = np.zeros(SIZE, np.uint8)
        cv2.fillPoly(lips, [np.rint(points[48:60]).astype(np.int32)], 1)
        albedo *= 1 - 0.25 * cv2.GaussianBlur(lips.astype(np.float64), (0, 0), 1.2)
    return albedo


def _given(albedo: np.ndarray, kind: str, seed: int) -> np.ndarray | None:
    """What somebody who gives the albedo gives, sRGB uint8 [H, W, 3]."""
    if kind not in ("known", "rough"):
        return None
    if kind == "rough":
        wrong = cv2.GaussianBlur(np.random.default_rng(1000 + seed).standard_normal(SIZE), (0, 0), 12.0)
        albedo = cv2.GaussianBlur(albedo, (0, 0), 3.0) * (1 + 0.03 * wrong / wrong.std())
    return np.repeat(np.rint(encoded(albedo)).astype(np.uint8)[..., None], 3, axis=2)


def measured(model: Morphable, head: Head, recipe: Shading) -> tuple[list[float], list[np.ndarray]]:
    """Figures of one head, in the order of `summary`, and its four pictures."""
    found = fit(model, head.points)
    began = time.process_time()
    relief = recipe.relief(model, Photo.of(head.pixels), head.points, found, head.known)
    taken = time.process_time() - began
    true = relief.window.cut(head.normals.astype(np.float32)).astype(np.float64)
    true /= np.maximum(np.linalg.norm(true, axis=2, keepdims=True), 1e-6)
    depth = relief.window.cut(head.depth.astype(np.float32))
    use = relief.mask & (relief.window.cut(head.covered.astype(np.float32)) > 0.999)
    row, pictures = [], [relief.window.cut(head.pixels), normal_map(true, use)]
    for reference in (relief.aligned, relief.reference):
        near, at = _surface(reference, relief)
        row += [_angle(at, true, use), _far(near / relief.window.scale - depth, use)]
        pictures += [normal_map(at, use)] if reference is relief.aligned else []
    row += [_angle(relief.normals, true, use), _far(relief.depth / relief.window.scale - depth, use)]
    row += [relief.residual, np.abs(relief.change).max() / relief.unit, taken, float(use.sum())]
    return row, [*pictures, normal_map(relief.normals, use)]


def _surface(reference: Reference, relief: Relief) -> tuple[np.ndarray, np.ndarray]:
    _, depth, at = drawn(reference, relief.triangles, relief.change.shape)
    return depth, at


def _angle(at: np.ndarray, true: np.ndarray, use: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((at * true).sum(2), -1, 1)))[use].mean())


def _far(off: np.ndarray, use: np.ndarray) -> float:
    """Centimetres; a depth without the place of its zero is meant."""
    return float(np.abs(off[use] - np.median(off[use])).mean() / SCALE)


def summary(rows: np.ndarray) -> dict[str, float | int]:
    means = dict(
        zip(
            ("aligned_deg", "aligned_cm", "corrected_deg", "corrected_cm", "relief_deg", "relief_cm", "residual", "largest_cm"),
            rows.mean(0),
        )
    )
    told: dict[str, float | int] = {name: round(float(value), 3) for name, value in means.items()}
    told["largest_cm"] = round(float(rows[:, 7].max()), 3)
    told["gain"] = round(1 - told["relief_deg"] / told["aligned_deg"], 3)
    told |= {"worse": int((rows[:, 4] > rows[:, 0]).sum()), "worst_depth": round(float((rows[:, 5] / rows[:, 1]).max()), 3)}
    return told | {"seconds": round(float(np.median(rows[:, 8])), 2), "pixels": int(rows[:, 9].mean()), "n": len(rows)}


if __name__ == "__main__":
    main()
