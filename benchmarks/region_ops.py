"""Region operators of `visagist.detect.regions` against plain loops over boxes and bins: same answers, how much faster; and where
the time of Faster R-CNN goes.

    python benchmarks/region_ops.py [--repeats 5] [--model faster-rcnn]

The loops are what the papers say, written down one box, one bin, one sample at a time (channels at once, by NumPy); the tests hold
the operators to them. Prints JSON: for each operator the milliseconds of both (processor time, one thread, medians) and their
ratio, at the sizes of a photograph of 640 x 480 with features of 96 channels at stride 8: 2,000 proposals to suppress, 300 regions
to pool, 43,200 anchors beside 20 faces. Then the milliseconds that the face preset takes for such a photograph, part by part;
--model: with these weights (a name, a file or a run folder), else fresh ones, which propose as many regions and find nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from visagist import catalog
from visagist.detect import regions
from visagist.detect.faster_rcnn import FaceFasterRCNN
from visagist.photo.photo import Photo
from visagist.weights import device


def slow_iou(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Of two boxes [4] in float32."""
    zero = np.float32(0)
    width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), zero) for i in (0, 1))
    areas = [max(v[2] - v[0], zero) * max(v[3] - v[1], zero) for v in (a, b)]
    union = areas[0] + areas[1] - width * height
    return np.float32(width * height / union) if union > 0 else zero


def slow_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    waiting, kept = sorted(range(len(boxes)), key=lambda i: (-scores[i], i)), []
    while waiting:
        best, *waiting = waiting
        kept.append(best)
        waiting = [i for i in waiting if not slow_iou(boxes[best], boxes[i]) > np.float32(threshold)]
    return kept


def slow_assign(
    boxes: np.ndarray, truth: np.ndarray, positive: float, negative: float, least: float = 0.0, *, best: bool = False
) -> tuple[list[int], list[int]]:
    table = [[slow_iou(box, t) for t in truth] for box in boxes]
    most = [max((row[j] for row in table), default=np.float32(0)) for j in range(len(truth))]
    roles, index = [], []
    for row in table:
        highest = max(row, default=np.float32(0))
        index.append(row.index(highest) if row else 0)
        if len(truth) and (highest >= np.float32(positive) or (best and any(v == m > 0 for v, m in zip(row, most, strict=True)))):
            roles.append(1)
        else:
            roles.append(0 if np.float32(least) <= highest < np.float32(negative) else -1)
    return roles, index


def slow_roi_pool(features: np.ndarray, rois: np.ndarray, scale: float, size: int = 7) -> np.ndarray:
    height, width = features.shape[2:]
    out = np.zeros((len(rois), features.shape[1], size, size), np.float32)
    for n, (picture, *box) in enumerate(rois):
        x0, y0, x1, y1 = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in (np.float32(v) * np.float32(scale) for v in box))
        w, h = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
        for i in range(size):
            for j in range(size):
                top, low = (min(max(y0 + v, 0), height) for v in (i * h // size, -(-(i + 1) * h // size)))
                left, right = (min(max(x0 + v, 0), width) for v in (j * w // size, -(-(j + 1) * w // size)))
                if low > top and right > left:
                    out[n, :, i, j] = features[int(picture), :, top:low, left:right].max((1, 2))
    return out


def slow_roi_align(features: np.ndarray, rois: np.ndarray, scale: float, size: int = 7, samples: int = 2) -> np.ndarray:
    height, width = features.shape[2:]
    out, features = np.zeros((len(rois), features.shape[1], size, size)), features.astype(np.float64)
    for n, (picture, x0, y0, x1, y1) in enumerate(rois.astype(np.float64)):
        for i in range(size * samples):
            for j in range(size * samples):
                y = (y0 + (i + 0.5) * (y1 - y0) / (size * samples)) * scale - 0.5
                x = (x0 + (j + 0.5) * (x1 - x0) / (size * samples)) * scale - 0.5
                if not (-1 <= y <= height and -1 <= x <= width):
                    continue
                y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                top, left = int(y), int(x)
                low, right = min(top + 1, height - 1), min(left + 1, width - 1)
                v, u = y - top, x - left
                corner = features[int(picture)]
                value = (1 - v) * ((1 - u) * corner[:, top, left] + u * corner[:, top, right])
                value += v * ((1 - u) * corner[:, low, left] + u * corner[:, low, right])
                out[n, :, i // samples, j // samples] += value / samples**2
    return out


def some_boxes(count: int, rng: np.random.Generator, width: float = 640, height: float = 480) -> np.ndarray:
    """Boxes of 8 to 200 pixels."""
    side = np.exp(rng.uniform(np.log(8), np.log(200), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * np.maximum([width, height] - side, 1)
    return np.concatenate([corner, corner + side], 1).astype(np.float32)


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Processor time: with one thread, the time on a machine that does nothing else."""
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times) * 1e3


def time_split(model: str | None, repeats: int) -> dict[str, float]:
    """Milliseconds of the parts of `FasterRCNN.detect`."""
    recipe, nets, place = FaceFasterRCNN(), {}, torch.device("cpu")
    if model is None:
        nets = {name: device.prepare(net, place) for name, net in recipe.networks().items()}
    else:
        loaded = catalog.load(model, "cpu", verb="detect")
        recipe, nets = loaded.recipe, loaded.nets
    smooth = np.random.default_rng(0).integers(0, 256, (15, 20, 3)).astype(np.uint8)
    photo = Photo.of(cv2.resize(smooth, (640, 480), interpolation=cv2.INTER_CUBIC))
    with torch.inference_mode():
        x, size, scale = recipe.picture(photo)
        features = nets["body"](x)
        logits, deltas = (v[0] for v in nets["rpn"](features))

        def proposed() -> tuple[torch.Tensor, torch.Tensor]:
            found: tuple[torch.Tensor, torch.Tensor]
            found = recipe.proposed(logits, deltas, float(scale.min()), recipe.anchors_of(features), size, use=True)
            return found

        boxes = proposed()[0]
        regions_seen = recipe.pooled(features, [boxes])
        parts: dict[str, Callable[[], object]] = {
            "picture": lambda: recipe.picture(photo),
            "features": lambda: nets["body"](x),
            "objectness": lambda: nets["rpn"](features),
            "proposals": proposed,
            "align": lambda: recipe.pooled(features, [boxes]),
            "head": lambda: nets["head"](regions_seen),
            "all": lambda: recipe.detect(nets, photo),
        }
        for work in parts.values():
            work()
        return {"regions": len(boxes), **{name: round(median_ms(work, repeats), 2) for name, work in parts.items()}}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--model", help="weights of faster-rcnn for the time split")
    o = options.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    boxes, scores = some_boxes(2000, rng), rng.random(2000).astype(np.float32)
    features = rng.standard_normal((1, 96, 60, 80)).astype(np.float32)
    rois = np.concatenate([np.zeros((300, 1), np.float32), some_boxes(300, rng)], 1)
    anchors, truth = some_boxes(43200, rng), some_boxes(20, rng)
    t = torch.from_numpy
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "nms": (lambda: regions.nms(t(boxes), t(scores), 0.7), lambda: slow_nms(boxes, scores, 0.7)),
        "assign": (
            lambda: regions.assign(t(anchors), t(truth), 0.7, 0.3, best=True),
            lambda: slow_assign(anchors, truth, 0.7, 0.3, best=True),
        ),
        "roi_pool": (lambda: regions.roi_pool(t(features), t(rois), 1 / 8), lambda: slow_roi_pool(features, rois, 1 / 8)),
        "roi_align": (lambda: regions.roi_align(t(features), t(rois), 1 / 8), lambda: slow_roi_align(features, rois, 1 / 8)),
    }
    figures = {}
    for name, (quick, slow) in pairs.items():
        quick()
        ours, loop = median_ms(quick, o.repeats), median_ms(slow, 1)
        figures[name] = {"ms": round(ours, 2), "loop_ms": round(loop, 1), "ratio": round(loop / ours, 1)}
    print(json.dumps({**figures, "faster_rcnn_ms": time_split(o.model, 5 * o.repeats)}, indent=2))


if __name__ == "__main__":
    main()
