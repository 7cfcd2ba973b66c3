"""Draw docs/pictures/stylize.webp: photographs of scikit-image in the manner of the four paintings.

    python docs/stylized.py [--features perceptual] [--size 320] [--iterations 150] [--model gatys]

Only pictures that may be published: the astronaut (NASA), chelsea the cat (Stéfan van der Walt, CC0) and the cup of coffee (Rachel
Michetti, CC0), all as distributed with scikit-image, and paintings in the public domain.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import skimage.data

import visagist
from visagist import catalog
from visagist.photo.photo import Photo

GAP = 6  # white pixels between pictures


def tile(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture within height x width, on white."""
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    shrinks = scale < 1
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    out = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", default="perceptual", help="feature network: name, weights file or run folder")
    parser.add_argument("--model", default="gatys", help="gatys or fast-style")
    parser.add_argument("--size", type=int, default=320, help="longer side of each picture")
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--ratio", type=float, default=5e4)
    parser.add_argument("--paintings", nargs="*", default=catalog.PAINTINGS)
    parser.add_argument("--out", default=str(Path(__file__).parent / "pictures" / "stylize.webp"))
    asked = parser.parse_args()
    photos = [skimage.data.astronaut(), skimage.data.chelsea()[:, 40:440], skimage.data.coffee()[:, 60:560]]
    side = asked.size
    rows = []
    files = [catalog.painting(name) for name in asked.paintings]
    rows.append([np.full((side // 2, side, 3), 255, np.uint8)] + [tile(Photo.open(f).pixels, side // 2, side) for f in files if f])
    history = ()
    for pixels in photos:
        row = [tile(pixels, side, side)]
        for name in asked.paintings:
            more = (
                {"features": asked.features, "iterations": asked.iterations, "ratio": asked.ratio} if asked.model == "gatys" else {}
            )
            made = visagist.stylize(np.ascontiguousarray(pixels), name, model=asked.model, size=side, **more)
            history = made.history
            row.append(tile(made.pixels, side, side))
            print(name, made.size, file=sys.stderr, flush=True)
        rows.append(row)
    lines = [np.hstack([np.pad(p, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255) for p in row]) for row in rows]
    sheet = Photo.of(np.vstack(lines), "WEBP").edited(np.vstack(lines), history[-1])
    Path(asked.out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(asked.out, overwrite=True)


if __name__ == "__main__":
    main()
