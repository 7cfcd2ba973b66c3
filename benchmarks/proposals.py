"""How many boxes selective search gives, in what time, and how many of the faces they hold: the most R-CNN and Fast R-CNN can find.

    python benchmarks/proposals.py --data faces portraits landmarks68.csv backgrounds [--mode fast quick] [--scenes 50]

On scenes of 500 pixels, composed of people no detector has learnt from, and on photographs with faces. Recall counts faces of 20
pixels and more at the width at which pictures are searched (no box is smaller); seconds are those of one core. Prints JSON, one
object a mode.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import cv2
import numpy as np

from visagist.detect.scenes import scene
from visagist.detect.selective_search import MODES, Settings, propose, recall
from visagist.recipe import Item
from visagist.training.data.readers import read


def measured(items: Sequence[Item], settings: Settings) -> dict[str, float | list[int]]:
    found, truths, seconds = [], [], 0.0
    for item in items:
        begun = time.process_time()
        found.append(propose(item.photo.pixels, settings))
        seconds += time.process_time() - begun
        scale = settings.width / item.photo.size[1]
        boxes = np.array([face.box for face in item.faces if face.label == "face"]).reshape(-1, 4)
        sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])) * scale
        truths.append(boxes[sides >= settings.least])
    counts = [len(boxes) for boxes in found]
    hit, total = recall(found, truths)
    better, _ = recall(found, truths, 0.7)
    return {
        "boxes": [min(counts), int(np.median(counts)), max(counts)],
        "seconds": round(seconds / len(items), 2),
        "recall_at_iou_0.5": round(hit / max(1, total), 4),
        "recall_at_iou_0.7": round(better / max(1, total), 4),
        "n_faces": total,
        "n_pictures": len(items),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", nargs="+", required=True)
    options.add_argument("--mode", nargs="+", default=list(MODES))
    options.add_argument("--scenes", type=int, default=50)
    options.add_argument("--photos", type=int, default=50)
    o = options.parse_args()
    cv2.setNumThreads(1)
    items = read(o.data, fold="dev", needs=("box",))
    scenes = [scene(items, i * 7 % len(items), np.random.default_rng((500, i)), 500) for i in range(o.scenes)]
    faces = [item for item in items if item.faces]
    photos = faces[:: max(1, len(faces) // max(1, o.photos))][: o.photos]
    for mode in o.mode:
        parts = {name: measured(some, Settings(mode)) for name, some in (("scenes", scenes), ("photos", photos)) if some}
        print(json.dumps({"mode": mode, **parts}), flush=True)


if __name__ == "__main__":
    main()
