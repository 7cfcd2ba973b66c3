"""Draw docs/pictures/detectors.png: what each generation of detectors looks at, and what it answers, on one portrait.

    python docs/detectors_side_by_side.py [--weights rcnn=RUN ...] [--out docs/pictures/detectors.png]

The portrait is NASA's of Eileen Collins (public domain, from skimage.data), beside it two smaller copies. Above are the regions
that the detector considers, of the proposals about a hundred; below what it answers with a score of at least 0.5. The times are of
one thread of the processor. A system without weights is left out.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from visagist.apps import process

process.settle()

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from skimage.data import astronaut  # noqa: E402

from visagist import catalog  # noqa: E402
from visagist.errors import WeightsError  # noqa: E402
from visagist.photo.draw import faces_on, sheet  # noqa: E402
from visagist.photo.photo import Photo  # noqa: E402

ORDER = ("rcnn", "fast-rcnn", "faster-rcnn", "yolo")
NAMES = {"rcnn": "R-CNN", "fast-rcnn": "Fast R-CNN", "faster-rcnn": "Faster R-CNN", "yolo": "YOLO"}
SHOWN = 100  # proposals that are drawn
CELLS = (4, 8, 16, 32)  # pixels of the cells of our YOLO


def picture() -> np.ndarray:
    """The portrait and two smaller copies, uint8 [384, 576, 3]."""
    portrait = astronaut()
    out = np.empty((384, 576, 3), np.uint8)
    out[:, :384] = cv2.resize(portrait, (384, 384), interpolation=cv2.INTER_AREA)
    out[:192, 384:] = cv2.resize(portrait, (192, 192), interpolation=cv2.INTER_AREA)
    out[192:, 384:] = cv2.resize(portrait[:, ::-1], (192, 192), interpolation=cv2.INTER_AREA)
    return out


def considered(loaded: Any, photo: Photo) -> tuple[np.ndarray, str]:
    """The photo with the regions that are looked at, and how many there are."""
    recipe, nets = loaded.recipe, loaded.nets
    out = photo.pixels.copy()
    if hasattr(recipe, "look"):
        boxes = recipe.look(nets, photo, body="")[1].float().numpy()
        shown, words = boxes[:SHOWN], f"{len(boxes)} proposals of its own"
    elif hasattr(recipe, "proposals"):
        boxes = recipe.proposals(photo)
        shown, words = boxes[:: max(1, len(boxes) // SHOWN)], f"{len(boxes)} searched proposals"
    else:
        for x in range(0, out.shape[1], CELLS[-1]):
            out[:, x] = out[:, x] // 2 + 100
        for y in range(0, out.shape[0], CELLS[-1]):
            out[y] = out[y] // 2 + 100
        count = sum((out.shape[0] // cell) * (out.shape[1] // cell) for cell in CELLS)
        return out, f"{count:,} cells at once (drawn: the largest)"
    for x0, y0, x1, y1 in np.rint(shown).astype(int).tolist():
        cv2.rectangle(out, (x0, y0), (x1, y1), (255, 220, 60), 1)
    return out, words


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures" / "detectors.png")
    o = options.parse_args()
    given = dict(pair.split("=", 1) for pair in o.weights)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    photo = Photo.of(picture())
    above, below, captions, answers = [], [], [], []
    for name in ORDER:
        try:
            loaded = catalog.load(given.get(name, name), "cpu", verb="detect")
        except WeightsError as error:
            print(f"{name}: left out; {error}")
            continue
        with loaded.inference():
            warm = Photo.of(np.ascontiguousarray(photo.pixels[:, ::-1]))  # another picture: proposals of one are remembered
            loaded.recipe.detect(loaded.nets, warm, min_score=0.5)
            forget()
            start = time.process_time()
            faces = loaded.recipe.detect(loaded.nets, photo, min_score=0.5)
            seconds = time.process_time() - start
            seen, words = considered(loaded, photo)
        above.append(seen)
        captions.append(f"{NAMES[name]}: {words}")
        below.append(faces_on(photo.pixels, faces))
        answers.append(f"{len(faces)} face{'' if len(faces) == 1 else 's'}, {seconds * 1000:.0f} ms")
    if not above:
        raise SystemExit("no detector has weights")
    o.out.parent.mkdir(parents=True, exist_ok=True)
    Photo.of(sheet([*above, *below], [*captions, *answers], columns=len(above), cell=(256, 384))).save(o.out, overwrite=True)
    page = Path(__file__).with_name("detect.md")
    if o.out.resolve() == page.parent.resolve() / "pictures" / "detectors.png":  # the page shows it as soon as it is there
        link = "![What each considers and answers](pictures/detectors.png)"
        page.write_text(page.read_text(encoding="utf-8").replace("<!-- picture: detectors.png -->", link), encoding="utf-8")


def forget() -> None:
    """Selective search remembers what it found in a picture; what R-CNN searched, Fast R-CNN must search again to be timed."""
    from visagist.detect import searched

    searched._caches.clear()
    os.environ.pop("VISAGIST_PROPOSALS", None)


if __name__ == "__main__":
    main()
