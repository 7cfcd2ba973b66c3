"""Our face finder beside OpenCV's Haar cascade and dlib's HOG detector: same pictures, one run, one thread.

    pip install dlib-bin        (this benchmark only)
    python benchmarks/finders.py --data youtube_faces_68 portraits landmarks68.csv backgrounds [--longest 640] [--model yolo]

Each detector has its own idea of where a face ends. So that this costs nobody anything, a constant map of the box (shift and
growth relative to its size) is fitted for every detector, ours included, on faces of the `train` fold, and recall and precision
are measured on `dev`. dlib looks at pictures upsampled once, as its manual suggests for small faces. Pictures larger than
`--longest` are reduced to it; speed is measured on the same pictures brought to exactly that size, in turns. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from visagist.apps import process

process.settle()  # what every command does to its process, before torch is imported

import cv2  # noqa: E402
import dlib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from visagist import catalog  # noqa: E402
from visagist.photo.boxes import iou  # noqa: E402
from visagist.photo.face import Face  # noqa: E402
from visagist.photo.photo import Photo  # noqa: E402
from visagist.recipe import Item  # noqa: E402
from visagist.training import metrics  # noqa: E402
from visagist.training.data.readers import read  # noqa: E402

Finder = Callable[[np.ndarray], list[Face]]


def haar() -> Finder:
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def find(pixels: np.ndarray) -> list[Face]:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        boxes, _, weights = cascade.detectMultiScale3(grey, 1.1, 1, minSize=(20, 20), outputRejectLevels=True)
        return [Face((x, y, x + w, y + h), score=float(s)) for (x, y, w, h), s in zip(boxes, np.ravel(weights), strict=True)]

    return find


def hog() -> Finder:
    detector = dlib.get_frontal_face_detector()

    def find(pixels: np.ndarray) -> list[Face]:
        boxes, scores, _ = detector.run(pixels, 1, -0.5)
        return [Face((b.left(), b.top(), b.right() + 1, b.bottom() + 1), score=s) for b, s in zip(boxes, scores, strict=True)]

    return find


def ours(model: str) -> Finder:
    loaded = catalog.load(model, "cpu", verb="detect")

    def find(pixels: np.ndarray) -> list[Face]:
        with loaded.inference():
            return list(loaded.recipe.detect(loaded.nets, Photo.of(pixels), min_score=0.01))

    return find


def sized(pixels: np.ndarray, longest: int, *, enlarge: bool) -> tuple[np.ndarray, float]:
    scale = longest / max(pixels.shape[:2])
    if scale >= 1 and not enlarge:
        return pixels, 1.0
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=method), scale


def box_map(found: Sequence[Sequence[Face]], items: Sequence[Item]) -> np.ndarray:
    """Median over matched faces of (shift x, shift y, growth x, growth y), shifts in units of the found box."""
    rows = []
    for faces, item in zip(found, items, strict=True):
        for truth in item.faces:
            if faces:
                best = max(faces, key=lambda f: float(iou(np.array([f.box]), np.array([truth.box]))[0, 0]))
                (a0, b0, a1, b1), (c0, d0, c1, d1) = best.box, truth.box
                if iou(np.array([best.box]), np.array([truth.box]))[0, 0] > 0.25:
                    w, h = a1 - a0, b1 - b0
                    rows.append([(c0 + c1 - a0 - a1) / 2 / w, (d0 + d1 - b0 - b1) / 2 / h, (c1 - c0) / w, (d1 - d0) / h])
    return np.median(np.array(rows), axis=0)


def mapped(face: Face, by: np.ndarray) -> Face:
    x0, y0, x1, y1 = face.box
    w, h = x1 - x0, y1 - y0
    cx, cy, hw, hh = (x0 + x1) / 2 + by[0] * w, (y0 + y1) / 2 + by[1] * h, w * by[2] / 2, h * by[3] / 2
    return replace(face, box=(cx - hw, cy - hh, cx + hw, cy + hh))


def scaled(face: Face, factor: float) -> Face:
    return replace(face, box=tuple(v * factor for v in face.box))


def run(find: Finder, items: Sequence[Item], longest: int) -> list[list[Face]]:
    out = []
    for item in items:
        pixels, scale = sized(item.photo.pixels, longest, enlarge=False)
        out.append([scaled(face, 1 / scale) for face in find(pixels)])
    return out


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", nargs="+", required=True)
    options.add_argument("--longest", type=int, default=640)
    options.add_argument("--model", default="yolo")
    options.add_argument("--timed", type=int, default=60, help="pictures in the speed comparison")
    o = options.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    train = [item for item in read(o.data, fold="train", needs=("box",)) if item.faces]
    train = [train[i] for i in rng.permutation(len(train))[:300]]
    dev = read(o.data, fold="dev", needs=("box",))
    timed = [sized(dev[i].photo.pixels, o.longest, enlarge=True)[0] for i in rng.permutation(len(dev))[: o.timed]]
    finders = {"visagist": ours(o.model), "haar": haar(), "dlib_hog_upsampled": hog()}
    seconds: dict[str, list[float]] = {name: [] for name in finders}
    for pixels in timed:  # in turns, so that a noisy machine is noisy for all
        for name, find in finders.items():
            start = time.perf_counter()
            find(pixels)
            seconds[name].append(time.perf_counter() - start)
    out = {}
    for name, find in finders.items():
        by = box_map(run(find, train, o.longest), train)
        found = [[mapped(face, by) for face in faces] for faces in run(find, dev, o.longest)]
        figures = metrics.detection(found, dev)
        rate = 1 / float(np.median(seconds[name]))
        out[name] = {**figures, "box_map": [round(float(v), 3) for v in by], f"pictures_per_second_at_{o.longest}": round(rate, 2)}
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
