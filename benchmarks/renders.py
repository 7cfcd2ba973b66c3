"""Are augmented pictures complete, and do their points lie where the face is? Measured on people never learnt from:

    python benchmarks/renders.py --data youtube_faces_68 [--count 20] [--most 10] [--page docs/recognize.md] [--sheet look.png]

One picture of each of so many people is augmented as `visagist augment` does it, every yaw, shape, expression and light by chance.

Complete  the picture is made a second time from pixels none of which is darker than 64: a pixel below 8 in all channels was never
          filled (an opened mouth and the darkest lamp leave more); floating point numbers that are none raise
Points    the points that moved along against those that the bundled `landmarks68` finds in the picture. It is no ruler: on the
          labelled photographs themselves it differs from the labels, so that is measured, too
Pose      the head fitted to the points found: how far from the yaw that was asked for
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import into_page, one_thread

from visagist import api, catalog
from visagist.apps.augmenting import Work
from visagist.errors import VisagistError
from visagist.photo.draw import sheet
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.recognize.augment import Augment
from visagist.training.data.readers import read
from visagist.training.metrics.interval import groups_of
from visagist.training.metrics.landmarks import nme_box

LIFTED, EMPTY = 64, 8
NEAR = 3.0  # pixels within which a point counts as right


@dataclass(frozen=True)
class Render:
    """One picture: whose, the turn it took in degrees, pixels never filled, mean error of its points in pixels and over the size of
    the face, that of the head's yaw in degrees (NaN: no head fits)."""

    photo: str
    turn: float
    holes: int
    pixels: float
    nme: float
    yaw: float


def chosen(items: Sequence[Item], count: int) -> list[Item]:
    """A picture of each of so many people, by chance."""
    of, people = groups_of([item.person or item.name for item in items])
    rng = np.random.default_rng(0)
    return [items[int(rng.choice(np.flatnonzero(of == person)))] for person in rng.permutation(people)[:count]]


def off(pixels: np.ndarray, points: np.ndarray) -> tuple[float, float, Face]:
    """How far `landmarks68` is from these points in a picture: mean in pixels, over the size of the face; and the face it found."""
    (found,) = api.landmarks(Photo.of(pixels), (Face.of_points(points),))
    assert found.points is not None
    return float(np.linalg.norm(found.points - points, axis=1).mean()), float(nme_box(found.points, points)), found


def measured(work: Work, item: Item, tiles: list[np.ndarray], captions: list[str]) -> tuple[list[Render], tuple[float, float]]:
    """What is made of one picture, and the error of `landmarks68` on the picture itself."""
    loaded = catalog.load("morphable")
    pixels, points = work.cut(item)
    yaw = loaded.recipe.fit_face(loaded.nets, Face.of_points(points)).pose.yaw
    lifted = Lifted(work.settings, work.size, work.device)
    renders = []
    with np.errstate(invalid="raise"):
        pairs = list(zip(work.views(item), lifted.views(item), strict=True))
    for (variation, made, moved), (_, bright, _) in pairs:
        mean, nme, face = off(made, moved)
        try:
            wrong = abs(loaded.recipe.fit_face(loaded.nets, face).pose.yaw - variation.yaw)
        except VisagistError:
            wrong = float("nan")
        renders.append(Render(item.name, abs(variation.yaw - yaw), int((bright < EMPTY).all(2).sum()), mean, nme, wrong))
        if len(tiles) < 48:
            tiles.append(marked(made, moved, face.points))
            captions.append(f"{variation.name} {mean:.1f}")
    return renders, off(pixels, points)[:2]


class Lifted(Work):
    """The same pictures from pixels none of which is dark."""

    def cut(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        pixels, points = super().cut(item)
        return np.maximum(pixels, np.uint8(LIFTED)), points


def marked(pixels: np.ndarray, moved: np.ndarray, found: np.ndarray | None) -> np.ndarray:
    """The picture with the points that moved along in green and those that were found in red."""
    out = pixels.copy()
    for points, colour in ((moved, (0, 255, 0)), (found, (255, 60, 60))):
        if points is not None:
            x, y = np.clip(points.astype(int), 0, np.array(out.shape[1::-1]) - 1).T
            out[y, x] = colour
    return out


def table(renders: Sequence[Render], photos: Sequence[tuple[float, float]], sides: Sequence[int]) -> str:
    lines = ["| turned by | renders | never filled | mean point error | 95 % of renders below | within 3 px | yaw off, median |"]
    lines.append("|---|---|---|---|---|---|---|")
    for low, high in ((0, 15), (15, 30), (30, 50), (0, 90)):
        own = [r for r in renders if low <= r.turn < high]
        if not own:
            continue
        pixels, yaws = np.array([r.pixels for r in own]), np.array([r.yaw for r in own])
        name = "**all**" if high == 90 else f"{low} to {high} degrees"
        cells = [name, str(len(own)), f"{sum(r.holes for r in own)} pixels"]
        cells += [f"{pixels.mean():.2f} px ({100 * np.mean([r.nme for r in own]):.1f} %)", f"{np.percentile(pixels, 95):.2f} px"]
        cells += [f"{(pixels <= NEAR).mean():.0%}", f"{np.nanmedian(yaws):.1f} degrees"]
        lines.append("| " + " | ".join(cells) + " |")
    own, relative = np.array(photos).T
    lines.append(
        f"| the photographs, labels | {len(own)} | | {own.mean():.2f} px ({100 * relative.mean():.1f} %) |"
        f" {np.percentile(own, 95):.2f} px | {(own <= NEAR).mean():.0%} | |"
    )
    lines += ["", f"{len(own)} pictures of as many unseen people, longer side {np.median(sides):.0f} px in the median."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--most", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--sheet")
    given = parser.parse_args()
    one_thread()
    work = Work(Augment(most=given.most), given.size, "cpu")
    renders, photos, sides = [], [], []
    tiles: list[np.ndarray] = []
    captions: list[str] = []
    for item in chosen(read(given.data, fold="dev", needs=("person", "points")), given.count):
        try:
            found, photo = measured(work, item, tiles, captions)
        except VisagistError as error:
            print(f"{item.name}: {error}", file=sys.stderr)
            continue
        renders += found
        photos.append(photo)
        sides.append(max(work.cut(item)[0].shape[:2]))
    text = table(renders, photos, sides)
    print(text)
    print(json.dumps({"renders": len(renders), "lost": int(np.isnan([r.yaw for r in renders]).sum())}))
    if given.page:
        into_page(given.page, "renders", text)
    if given.sheet:
        Photo.of(sheet(tiles, captions, columns=8, cell=(220, 220))).save(given.sheet, overwrite=True)


if __name__ == "__main__":
    main()
