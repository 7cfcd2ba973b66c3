"""What detectors learn from composed scenes alone: YOLO's face sheet, and the three generations of the R-CNN family.

    python benchmarks/composites.py --out runs/composites [--data youtube_faces_68 portraits backgrounds] [--only sheet rcnn ...]

sheet: 50 scenes by heart, and, after scenes that never repeat, 200 scenes of people it has not seen. rcnn, fast-rcnn, faster-rcnn:
each learns the same 200 scenes (320 pixels, faces of 16 and more) and is measured on these and on 100 of people it has not seen,
with the seconds that it takes for a scene, proposals included. Scenes are composed of rows of the `train` fold, unseen ones of the
`dev` fold; without --data, of drawn faces. Prints one JSON object a detector; the runs lie in the folder and can be used with
`visagist detect --model`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from measuring import medians  # isort: skip  first: it sets the process up

import numpy as np

from visagist import catalog
from visagist.detect import searched
from visagist.detect.faster_rcnn import FaceFasterRCNN
from visagist.detect.scenes import scene
from visagist.detect.yolo import YoloFaceSheet
from visagist.photo.photo import Photo
from visagist.recipe import Item, Recipe
from visagist.training.data import made_up
from visagist.training.data.readers import read
from visagist.training.evaluate import evaluate
from visagist.training.loop import train

SIDE, SMALLEST = 320, 16  # of the scenes for the R-CNN family, and of their faces
STEPS = {"rcnn": 1500, "fast-rcnn": 800, "faster-rcnn": 800}
Figures = dict[str, object]


@dataclass(frozen=True)
class ByHeart(YoloFaceSheet):
    """The same scenes again and again, as they are."""

    jitter: float = 0.0
    exposure: float = 1.0
    steps: int = 600
    warm: int = 60

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        return items[index]


@dataclass(frozen=True)
class FasterOnThese(FaceFasterRCNN):
    """The pictures as they are, mirrored by chance; composed of nothing."""

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        return items[index]

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        pixels, scale = self.fitted(item.photo)
        return self.packed(item, pixels, scale, mirror=rng.random() < 0.5, canvas=pixels.shape[:2])


def composites(recipe: YoloFaceSheet, items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Scenes as the recipe's training sees them, all different."""
    made = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        made.append(recipe.compose(items, int(rng.integers(len(items))), rng))
    return made


def scenes(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Scenes of `SIDE` pixels; smaller faces than `SMALLEST` are passed over."""
    made = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        item = scene(items, int(rng.integers(len(items))), rng, SIDE, least=32)
        sides = [float(np.sqrt((f.box[2] - f.box[0]) * (f.box[3] - f.box[1]))) for f in item.faces]
        faces = (f if side >= SMALLEST else replace(f, label="ignore") for f, side in zip(item.faces, sides, strict=True))
        made.append(replace(item, faces=tuple(faces)))
    return made


def learned(
    system: str, preset: str, recipe: Recipe, items: Sequence[Item], out: Path, tests: dict[str, list[Item]], workers: int
) -> Figures:
    """Train, load what was written as any command would, and measure it."""
    begun = time.monotonic()
    file = train(recipe, items, out, system=system, workers=workers, card={"preset": preset})
    figures: Figures = {"minutes": round((time.monotonic() - begun) / 60, 1)}
    loaded = catalog.load(file)
    for name, pictures in tests.items():
        figures[name] = evaluate(loaded.recipe, loaded.nets, pictures)
    searched._caches.clear()  # every detector searches for its proposals itself, and in pictures that are new to it
    timed = [Photo.of(np.ascontiguousarray(item.photo.pixels[:, ::-1])) for item in next(iter(tests.values()))[:20]]
    seconds, _ = medians({system: lambda photo: loaded.recipe.detect(loaded.nets, photo)}, timed)[system]
    return {**figures, "seconds_a_scene": round(seconds, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", help="sets as `visagist train` takes them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", nargs="+", default=["sheet", *STEPS], choices=["sheet", *STEPS])
    parser.add_argument("--steps", type=int, default=YoloFaceSheet.steps, help="steps of the sheet on composed scenes")
    parser.add_argument("--by-heart", type=int, default=ByHeart.steps, help="steps of the sheet on the same 50 scenes")
    parser.add_argument("--generation-steps", type=int, help="steps of the R-CNN family; default: " + str(STEPS))
    parser.add_argument("--workers", type=int, default=1, help="processes that compose scenes")
    o = parser.parse_args()
    if o.data:
        seen, unseen = (read(o.data, fold=fold, needs=("box",)) for fold in ("train", "dev"))
    else:
        seen, unseen = (made_up.items(400, seed) + made_up.items(100, seed, size=256, faces=0) for seed in (1, 2))
    if "sheet" in o.only:
        recipe = replace(YoloFaceSheet(), steps=o.steps)
        fifty = composites(recipe, seen, 50, seed=1)
        by_heart = learned("yolo", "face-sheet", ByHeart(steps=o.by_heart), fifty, o.out / "by_heart", {"seen": fifty}, o.workers)
        tests = {"unseen": composites(recipe, unseen, 200, seed=2)}
        print(json.dumps({"sheet": {"by_heart": by_heart}}), flush=True)
        figures = learned("yolo", "face-sheet", recipe, seen, o.out / "scenes", tests, o.workers)
        print(json.dumps({"sheet": {"scenes": figures}}), flush=True)
    two_hundred, hundred = scenes(seen, 200, seed=3), scenes(unseen, 100, seed=4)
    for name in (n for n in STEPS if n in o.only):
        steps = o.generation_steps or STEPS[name]
        recipe = (
            FasterOnThese(steps=steps)
            if name == "faster-rcnn"
            else catalog.recipe(name, steps=steps, scenes=0, width=SIDE, smallest=SMALLEST)
        )
        tests = {"seen": two_hundred[:50], "unseen": hundred}
        figures = learned(name, "face", recipe, two_hundred, o.out / name, tests, 0 if name == "rcnn" else o.workers)
        print(json.dumps({name: {"steps": steps, **figures}}), flush=True)


if __name__ == "__main__":
    main()
