"""Which faces a finder overlooks: the faces of people it has not seen, made small, tilted and laid into other photographs.

    python benchmarks/finder_by_kind.py --data youtube_faces_68 portraits landmarks68.csv backgrounds [--model yolo] [--score 0.5]

Every labelled face of the fold is reduced to `--sides` pixels (geometric mean side of its box), turned by each of `--tilts`
degrees, and laid with a soft round edge somewhere into a photograph without people, several to a picture. Prints JSON: the share
found at the score (IoU at least 0.5) with its count, over all and by kind: side, tilt, yaw, dark and light skin (thirds of the
mean lightness of the box's middle), and what people noted about the pictures (glasses, beard, no hair, youth).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np

from visagist import catalog
from visagist.photo.boxes import Box, iou, overlap
from visagist.photo.face import box_of_points
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Item
from visagist.training.data.readers import read

NOTED = ("eyeglasses", "sunglasses", "facial_hair", "bald", "young")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--fold", default="dev")
    parser.add_argument("--model", default="yolo")
    parser.add_argument("--score", type=float, default=0.5)
    parser.add_argument("--sides", type=float, nargs="+", default=[16, 24, 48])
    parser.add_argument("--tilts", type=float, nargs="+", default=[0, 20, 45])
    o = parser.parse_args()
    items = read(o.data, fold=o.fold, needs=("box",))
    faces = [item for item in items if item.faces and item.faces[0].points is not None]
    scenery = [item for item in items if not item.faces]
    lightness = {item.name: _lightness(item) for item in faces}
    thirds = np.quantile(list(lightness.values()), [1 / 3, 2 / 3])
    loaded = catalog.load(o.model, "cpu", verb="detect")
    found: dict[str, list[bool]] = defaultdict(list)
    strays = pictures = 0
    rng = np.random.default_rng(5)
    wanted = [(item, side, tilt) for side in o.sides for tilt in o.tilts for item in faces]
    for start in range(0, len(wanted), 8):
        pixels, laid = _laid(scenery[int(rng.integers(len(scenery)))].photo.pixels, wanted[start : start + 8], rng)
        with loaded.inference():
            answers = loaded.recipe.detect(loaded.nets, Photo.of(pixels), min_score=o.score)
        boxes = np.array([f.box for f in answers]).reshape(-1, 4)
        strays += int((iou(boxes, np.array([box for *_, box in laid]).reshape(-1, 4)).max(1, initial=0) < 0.5).sum())
        pictures += 1
        for item, side, tilt, box in laid:
            hit = bool(iou(np.array([box]), boxes).max(initial=0) >= 0.5)
            for kind in ("all", f"side {side:g}", f"tilt {abs(tilt):g}", *_kinds(item, lightness[item.name], thirds)):
                found[kind].append(hit)
    figures = {kind: {"found": round(float(np.mean(hits)), 4), "n": len(hits)} for kind, hits in sorted(found.items())}
    print(json.dumps({"pictures": pictures, "other_boxes_per_picture": round(strays / pictures, 3), **figures}, indent=2))


def _kinds(item: Item, light: float, thirds: np.ndarray) -> list[str]:
    kinds = [("skin dark", "skin middle", "skin light")[int((light > thirds).sum())]]
    kinds += [noted for noted in NOTED if item.facts.get(noted) == 1.0]
    yaw = item.facts.get("yaw")
    if isinstance(yaw, float):
        kinds.append("yaw under 20" if abs(yaw) < 20 else "yaw 20 to 40" if abs(yaw) < 40 else "yaw over 40")
    return kinds


def _lightness(item: Item) -> float:
    """Mean L* of the middle of the face box, 0..255."""
    x0, y0, x1, y1 = item.faces[0].box
    middle = Window.of_box((x0 + (x1 - x0) / 4, y0 + (y1 - y0) / 4, x1 - (x1 - x0) / 4, y1 - (y1 - y0) / 4), (16, 16))
    return float(cv2.cvtColor(middle.cut(item.photo.pixels), cv2.COLOR_RGB2LAB)[..., 0].mean())


def _laid(
    scenery: np.ndarray, wanted: Sequence[tuple[Item, float, float]], rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[Item, float, float, Box]]]:
    """The scenery at a longest side of 640 with the faces laid into it, and where they lie; one that finds no room is left out."""
    scale = 640 / max(scenery.shape[:2])
    canvas = cv2.resize(scenery, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    height, width = canvas.shape[:2]
    taken: list[Box] = []
    laid = []
    for item, side, tilt in wanted:
        x0, y0, x1, y1 = item.faces[0].box
        reach = side / np.sqrt((x1 - x0) * (y1 - y0))  # reduction of the photo
        patch = int(np.ceil(side * 2.2))
        tilt = float(tilt * rng.choice([-1, 1]))
        for _ in range(40):
            x, y = rng.integers(0, width - patch), rng.integers(0, height - patch)
            place = (float(x), float(y), float(x + patch), float(y + patch))
            if taken and overlap(np.array([place]), np.array(taken)).max() > 0:
                continue
            taken.append(place)
            window = Window.turned(((x0 + x1) / 2, (y0 + y1) / 2), patch / reach, patch, roll=tilt)
            cut = window.cut(item.photo.pixels)
            inside = window.cut(np.full((*item.photo.size, 3), 255, np.uint8), border=(0, 0, 0))[..., :1] / 255
            grid = (np.arange(patch) + 0.5) / patch * 2 - 1
            soft = np.clip((1 - np.hypot(grid[:, None], grid[None])) / 0.2, 0, 1)[..., None] * inside
            into = canvas[y : y + patch, x : x + patch]
            into[:] = np.rint(into * (1 - soft) + cut * soft)
            points = item.faces[0].points
            assert points is not None
            a0, b0, a1, b1 = box_of_points(points @ window.matrix[:, :2].T + window.matrix[:, 2])
            laid.append((item, side, tilt, (a0 + x, b0 + y, a1 + x, b1 + y)))
            break
    return canvas, laid


if __name__ == "__main__":
    main()
