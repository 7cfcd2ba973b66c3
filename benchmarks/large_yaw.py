"""Points and finders by how far heads are turned, on labelled photographs and on rendered people that nothing was trained on.

    python benchmarks/large_yaw.py --data ../shared/data/youtube_faces_68 --points landmarks68 runs/landmarks68_mixed --finders yolo

Error of points: mean distance over the root of the labelled box' area, in percent, from labelled boxes with the errors of a finder.
A finder has found a face where a box with score 0.5 or more has an IoU of 0.5 or more with the labelled one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from visagist import catalog
from visagist.photo.boxes import iou
from visagist.recipe import Item
from visagist.training.data import rendered
from visagist.training.data.readers import read

EDGES = (0, 15, 30, 45, 60, 90)
SEED = 900  # of people whom no training has seen


def bucket(item: Item) -> int:
    """The number of the range that the head's yaw lies in."""
    return int(np.searchsorted(EDGES, abs(float(item.facts["yaw"])), side="right")) - 1


def errors(name: str, items: Sequence[Item]) -> list[float]:
    """Of each item, in percent."""
    loaded = catalog.load(name, verb="landmarks")
    recipe: Any = loaded.recipe
    rng = np.random.default_rng(0)
    found = []
    for item in items:
        x0, y0, x1, y1 = item.faces[0].box
        size = np.array([x1 - x0, y1 - y0])
        low, grow = np.array([x0, y0]) + rng.normal(0, 0.04, 2) * size, np.exp(rng.normal(0, 0.06, 2))
        box = (*(low + size * (1 - grow) / 2), *(low + size * (1 + grow) / 2))
        (points,) = recipe.locate(loaded.nets["points"], item.photo.pixels, [box])
        away = np.linalg.norm(points - item.faces[0].points, axis=1).mean()
        found.append(100 * float(away / np.sqrt(size.prod())))
    return found


def hits(name: str, items: Sequence[Item]) -> list[float]:
    """100 for each face that is found, else 0."""
    loaded = catalog.load(name, verb="detect")
    answers = []
    for item in items:
        with loaded.inference():
            faces = loaded.recipe.detect(loaded.nets, item.photo, min_score=0.5)
        boxes = np.array([face.box for face in faces]).reshape(-1, 4)
        answers.append(100.0 * bool(len(boxes) and iou(np.array([item.faces[0].box]), boxes).max() >= 0.5))
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], help="faces with 68 points and a column yaw; fold dev")
    parser.add_argument("--points", nargs="*", default=["landmarks68"])
    parser.add_argument("--finders", nargs="*", default=[])
    parser.add_argument("--rendered", type=int, default=200)
    given = parser.parse_args()
    sets = {"photographs": read(given.data, fold="dev", needs=("points", "yaw"))} if given.data else {}
    sets["rendered"] = rendered.items(given.rendered, SEED, size=160)
    print("| set | system | " + " | ".join(f"{a}-{b}" for a, b in zip(EDGES, EDGES[1:], strict=False)) + " | all |")
    print("|---" * (len(EDGES) + 2) + "|")
    for told, items in sets.items():
        of = np.array([bucket(item) for item in items])
        cells = [str(int((of == k).sum())) for k in range(len(EDGES) - 1)]
        print(f"| {told} | n | " + " | ".join([*cells, str(len(items))]) + " |")
        for measure, names in ((errors, given.points), (hits, given.finders)):
            for name in names:
                values = np.array(measure(name, items))
                means = [f"{values[of == k].mean():.2f}" if (of == k).any() else "-" for k in range(len(EDGES) - 1)]
                print(f"| {told} | {name} | " + " | ".join([*means, f"{values.mean():.2f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
