"""How the face finder does by size of face: 200 scenes composed of people it has not seen, faces from 9 pixels on.

    python benchmarks/finder_by_size.py --data youtube_faces_68 portraits landmarks68.csv backgrounds [--model yolo] [--size 320]

Scenes are harder than photographs: faces are turned, covered, recoloured and blurred, and everything around them is, too. Prints
JSON: the figures over all faces, and for each range of sizes (geometric mean side of the box in pixels) the share of faces found.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from visagist import catalog
from visagist.detect.scenes import scene
from visagist.photo.boxes import iou
from visagist.training import metrics
from visagist.training.data.readers import read

EDGES = (9, 14, 20, 28, 40, 64, 128, 1000)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", nargs="+", required=True)
    options.add_argument("--model", default="yolo")
    options.add_argument("--score", type=float, default=0.3, help="faces found are those with at least this score")
    options.add_argument("--scenes", type=int, default=200)
    options.add_argument("--size", type=int, default=320, help="side of a scene in pixels")
    options.add_argument("--least", type=float, default=20, help="smallest tile in pixels")
    o = options.parse_args()
    items = read(o.data, fold="dev", needs=("box",))
    scenes = [scene(items, i % len(items), np.random.default_rng((99, i)), o.size, least=o.least) for i in range(o.scenes)]
    loaded = catalog.load(o.model, "cpu", verb="detect")
    with loaded.inference():
        found = [loaded.recipe.detect(loaded.nets, one.photo, min_score=0.01) for one in scenes]
    sizes, hits = [], []
    for faces, one in zip(found, scenes, strict=True):
        boxes = np.array([f.box for f in faces if f.score >= o.score]).reshape(-1, 4)
        for truth in (f for f in one.faces if f.label == "face"):
            x0, y0, x1, y1 = truth.box
            sizes.append(np.sqrt((x1 - x0) * (y1 - y0)))
            hits.append(bool(len(boxes)) and float(iou(np.array([truth.box]), boxes).max()) >= 0.5)
    size, hit = np.array(sizes), np.array(hits)
    by_size = {}
    for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
        inside = (size >= low) & (size < high)
        by_size[f"{low}-{high}"] = {"found": round(float(hit[inside].mean()), 3) if inside.any() else None, "n": int(inside.sum())}
    print(json.dumps({**metrics.detection(found, scenes), "by_size": by_size}, indent=2))


if __name__ == "__main__":
    main()
