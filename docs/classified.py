"""Draw docs/pictures/classify.png: photographs, what the network sees of them, what its answer rests on, and the answer.

    python docs/classified.py [--model cifar-best|RUN] [--out docs/pictures/classify.png]

The photographs are in the public domain (NASA, SpaceX) or given to it by their makers, and come with scikit-image. Only a cat is
one of the ten classes; what the network says to the others shows what it cannot do: say that it does not know.
"""

from __future__ import annotations

import argparse

from visagist.apps import process

process.settle()

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from skimage import data  # noqa: E402

from visagist import catalog  # noqa: E402
from visagist.classify.classifier import square, window_of  # noqa: E402
from visagist.photo.chart import answered, lit  # noqa: E402
from visagist.photo.draw import sheet  # noqa: E402
from visagist.photo.photo import Photo  # noqa: E402

PHOTOS = ("chelsea", "rocket", "astronaut", "coffee")
SIDE = 320


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="cifar-best")
    options.add_argument("--out", default="docs/pictures/classify.png")
    o = options.parse_args()
    loaded = catalog.load(o.model, verb="classify")
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in PHOTOS:
        photo = Photo.of(getattr(data, name)())
        left, top, side = window_of(photo.size)
        photo = Photo.of(cv2.resize(photo.pixels[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        with loaded.inference():
            found = loaded.recipe.classify(loaded.nets, photo)[:5]
            heat = loaded.recipe.explain(loaded.nets, photo)
        rows[0].append(np.repeat(np.repeat(square(photo.pixels), SIDE // 32, 0), SIDE // 32, 1))
        rows[1].append(answered(lit(photo.pixels, heat), found))
        print(name, ", ".join(f"{label} {score:.2f}" for label, score in found))
    top_row = sheet(rows[0], columns=len(PHOTOS), cell=(SIDE, SIDE), title="What the network sees: 32 x 32 pixels")
    below = sheet(rows[1], columns=len(PHOTOS), cell=rows[1][0].shape[:2], title="What its answer rests on, and the answer")
    Photo.of(np.concatenate([top_row, below])).save(o.out, overwrite=True)


if __name__ == "__main__":
    main()
