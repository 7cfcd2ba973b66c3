"""Measure turned heads: `python benchmarks/rotate.py --data ../data/portraits ../data/faces [--count 60]`, without data times only.

Time      one view of a 512 px photo, and its parts (medians, processor time)
Turned    near-frontal faces turned by +-20 degrees (--by), their points found anew and fitted: by how much did the yaw change?
Identity  with --identity: how `visagist recognize` (--identity MODEL) likes the turned face to the photo's, by angle
Hundredth mean and largest difference of photos turned by 0.01 degrees, in levels (by 0 they come back as they are)

One picture of each person; faces come from `visagist detect`, points from `landmarks`; photos shrunk to 640 pixels. --sheet FILE
draws the results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from skimage.data import astronaut

from visagist import api, catalog
from visagist.errors import VisagistError
from visagist.head.fit import fit
from visagist.head.render import harmonic, rasterise
from visagist.photo.draw import sheet
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.training.data.readers import read
from visagist.training.metrics.interval import draws, groups_of, percentiles

LONGEST, FRONTAL = 640, 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--by", type=float, nargs="*", default=[20.0, -20.0])
    parser.add_argument("--sheet")
    parser.add_argument("--identity", metavar="MODEL", nargs="?", const="embedding")
    given = parser.parse_args()
    print(json.dumps(times()))
    if given.data:
        turned(read(given.data, fold="dev"), given.count, given.by, given.sheet, given.identity)


def times() -> dict[str, float]:
    """Milliseconds of the processor, all threads together, medians of seven: beside other work the clock tells little."""
    photo = Photo.of(astronaut())
    (face,) = api.landmarks(photo)
    loaded = catalog.load("morphable")
    model, found = loaded.recipe._model(loaded.nets), loaded.recipe.fit_face(loaded.nets, face)
    assert face.points is not None
    points = face.points
    placed = found.placed(model.shape(found.identity, found.expression))
    known = np.random.default_rng(0).random((512, 512)) < 0.3
    field = np.zeros((512, 512, 2), np.float32)
    return {
        "fit_ms": _median(lambda: fit(model, points)),
        "rasterise_ms": _median(lambda: rasterise(placed, model.triangles, (512, 512))),
        "harmonic_512_ms": _median(lambda: harmonic(field, known)),
        "view_512_ms": _median(lambda: api.rotate(photo, turn=(20, 0, 0), faces=(face,))),
    }


def _median(do: Callable[[], object]) -> float:
    taken = []
    for _ in range(7):
        began = time.process_time()
        do()
        taken.append(time.process_time() - began)
    return round(1000 * statistics.median(taken), 1)


def turned(items: Sequence, count: int, by: Sequence[float], sheet_to: str | None, identity: str | None) -> None:
    """Prints one JSON object for each angle."""
    loaded = catalog.load("morphable")
    order = np.random.default_rng(0).permutation(len(items))
    frontal: list = []
    seen: set[str] = set()
    for index in order:
        if len(frontal) == count:
            break
        if items[index].person in seen:
            continue
        pixels = items[index].photo.pixels
        scale = min(1.0, LONGEST / max(pixels.shape[:2]))
        if scale < 1:
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photo = Photo.of(pixels)
        try:
            face = api.landmarks(photo, api.choose(api.detect(photo), "largest"))[0]
            found = loaded.recipe.fit_face(loaded.nets, face)
        except VisagistError:
            continue
        if abs(found.pose.yaw) < FRONTAL:
            frontal.append((items[index], photo, face, found))
            seen.add(items[index].person)
    still = [np.abs(api.rotate(p, turn=(0.01, 0, 0), faces=(f,)).pixels.astype(int) - p.pixels) for _, p, f, _ in frontal[:5]]
    print(json.dumps({"hundredth": float(np.mean([off.mean() for off in still])), "largest": int(max(off.max() for off in still))}))
    known = [_identity(photo, (face,), identity) if identity else None for _, photo, face, _ in frontal]
    for angle in by:
        changes, tiles, captions, scores = [], [], [], []
        for (_, photo, face, found), was in zip(frontal, known, strict=True):
            made = api.rotate(photo, turn=(angle, 0, 0), faces=(face,))
            try:
                again = api.landmarks(made, api.choose(api.detect(made), "largest"))
                change = loaded.recipe.fit_face(loaded.nets, again[0]).pose.yaw - found.pose.yaw
                if identity and was is not None:
                    scores.append(float(was @ _identity(made, again, identity)))
            except VisagistError:
                change = float("nan")
            changes.append(change)
            tiles.append(_around(made.pixels, face.box))
            captions.append(f"{change:+.1f}")
        good = [abs(change - angle) <= 4 for change in changes]
        people = [str(item.person) for item, *_ in frontal]
        told = {"turned": angle, "within_4": float(np.mean(good)), "interval": _interval(good, people), "n": len(good)}
        told |= {"median_change": float(np.nanmedian(changes)), "lost": int(np.isnan(changes).sum())}
        if identity:
            told |= {"identity_mean": float(np.mean(scores)), "identity_p5": float(np.percentile(scores, 5))}
        print(json.dumps(told), flush=True)
        if sheet_to:
            stem, _, ending = sheet_to.rpartition(".")
            Photo.of(sheet(tiles, captions, columns=8, cell=(200, 180))).save(f"{stem}_{angle:+.0f}.{ending}", overwrite=True)


def _identity(photo: Photo, faces: Sequence[Face], model: str) -> np.ndarray:
    """The vector that `visagist recognize` compares, of the first of these faces."""
    found = api.identify(photo, faces, model=model)[0].identity
    assert found is not None
    return found


def _interval(good: Sequence[bool], people: Sequence[str]) -> list[float]:
    """95 % by bootstrap over people."""
    groups, count = groups_of(people)
    drawn = draws(count)
    right, all_of = (np.bincount(groups, values, count) for values in (np.array(good, float), np.ones(len(good))))
    return [float(v) for v in percentiles((drawn @ right) / (drawn @ all_of))]


def _around(pixels: np.ndarray, box: Sequence[float]) -> np.ndarray:
    x0, y0, x1, y1 = box
    reach = 0.6 * (y1 - y0)
    return pixels[max(0, int(y0 - reach)) : int(y1 + reach), max(0, int(x0 - reach)) : int(x1 + reach)]


if __name__ == "__main__":
    main()
