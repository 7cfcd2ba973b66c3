"""Give pictures of one central face 68 points, with nothing but the landmark network.

    python benchmarks/label_portraits.py --data portraits --out landmarks68.csv [--sheets FOLDER] [--drop a.jpg b.jpg]

No finder is needed: the network is started from many boxes (OpenCV's Haar cascade and a grid about the middle) and answers are
kept only where they agree, whatever the start: a wrong start ends anywhere, a right one always on the face. `support` on the
sheets is the share of starts that agree with the answer. Look at every picture, name the wrong ones in --drop and run it again.
The csv (file, x0, y0 ... x67, y67, pixel indices as in the frames) is what `train yolo` takes as points of the portraits.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visagist import catalog
from visagist.photo.boxes import Box
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.training.data.kinds import write_points
from visagist.training.data.readers import read


def starts(pixels: np.ndarray, cascade: Any) -> list[Box]:
    """Boxes to start from: what the cascade finds, in our convention, and a grid about the middle of the picture."""
    height, width = pixels.shape[:2]
    boxes: list[Box] = []
    for x, y, w, h in cascade.detectMultiScale(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 1.1, 4, minSize=(width // 5, width // 5)):
        boxes.append((x + 0.08 * w, y + 0.17 * h, x + 0.92 * w, y + 1.05 * h))
    for side in (0.40, 0.52, 0.68, 0.86):
        for cy in (0.42, 0.52):
            half = side * width / 2
            boxes.append((width / 2 - half, cy * height - half, width / 2 + half, cy * height + half))
    return boxes


def agreed(points: np.ndarray, limit: float = 0.03) -> tuple[np.ndarray, float]:
    """Of answers [N, 68, 2] the mean of the largest group that agrees, and its share of all; limit as a part of the face's size."""
    size = np.sqrt(np.ptp(points, axis=1).prod(1))
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1).mean(-1) / np.maximum(size[:, None], size[None])
    near = apart < limit
    best = int(near.sum(1).argmax())
    return points[near[best]].mean(0), float(near[best].mean())


def tile(photo: Photo, points: np.ndarray, side: int) -> np.ndarray:
    """The face with its points, cut with some air around it, side x side."""
    x0, y0, x1, y1 = Face.of_points(points).box
    half = 0.62 * max(x1 - x0, y1 - y0)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    scale = side / (2 * half)
    matrix = np.array([[scale, 0, -scale * (cx - half)], [0, scale, -scale * (cy - half)]])
    out = cv2.warpAffine(photo.pixels, matrix, (side, side), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for x, y in points @ matrix[:, :2].T + matrix[:, 2]:
        cv2.circle(out, (int((x - 0.5) * 16), int((y - 0.5) * 16)), max(16, side // 8), (0, 255, 0), -1, cv2.LINE_AA, shift=4)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--model", default="landmarks68")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fold", default="all")
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--drop", nargs="*", default=[])
    parser.add_argument("--support", type=float, default=0.5, help="drop what fewer starts than this agree on")
    options = parser.parse_args(arguments)
    loaded = catalog.load(options.model, "cpu", verb="landmarks")
    recipe: Any = loaded.recipe
    cascades = Path(cv2.__file__).parent / "data"
    cascade = cv2.CascadeClassifier(str(cascades / "haarcascade_frontalface_default.xml"))
    kept, tiles, names = [], [], []
    for item in read(options.data, fold=options.fold):
        photo = item.photo
        points, support = agreed(recipe.locate(loaded.nets["points"], photo.pixels, starts(photo.pixels, cascade), passes=3))
        left_out = item.name in options.drop or support < options.support
        if not left_out:
            kept.append((item.name, points))
        if options.sheets:
            tiles.append(tile(photo, points, 150))
            names.append(f"{item.name} {support:.2f}{' DROPPED' if left_out else ''}")
    write_points(options.out, kept)
    print(f"{len(kept)} of {len(kept) + sum(1 for n in names if n.endswith('DROPPED'))} labelled")
    if options.sheets:
        write_sheets(options.sheets, tiles, names)


def write_sheets(folder: Path, tiles: Sequence[np.ndarray], names: Sequence[str], count: int = 60) -> None:
    """Sheets of `count` tiles with their names."""
    from visagist.photo.draw import sheet

    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(tiles), count):
        page = sheet(tiles[start : start + count], names[start : start + count], columns=10)
        cv2.imwrite(str(folder / f"{start:04d}.png"), cv2.cvtColor(page, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
