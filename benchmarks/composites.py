"""What the face sheet of YOLO v1 learns: 50 composed scenes by heart, and 200 scenes of people it has not seen.

    python benchmarks/composites.py --out runs/composites [--data youtube_faces_68 portraits backgrounds] [--steps 3000]

Scenes are composed of rows of the `train` fold and, for the 200, of the `dev` fold; without --data, of drawn faces.
Prints one JSON object; the two runs lie in the folder and can be used with `visagist detect --model`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from visagist import catalog
from visagist.detect.yolo import YoloFaceSheet
from visagist.recipe import Item
from visagist.training.data import made_up
from visagist.training.data.readers import read
from visagist.training.evaluate import evaluate
from visagist.training.loop import train


@dataclass(frozen=True)
class ByHeart(YoloFaceSheet):
    """The same scenes again and again, as they are."""

    jitter: float = 0.0
    exposure: float = 1.0
    steps: int = 600
    warm: int = 60

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        return items[index]


def composites(recipe: YoloFaceSheet, items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Scenes as the recipe's training sees them, all different."""
    made = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        made.append(recipe.compose(items, int(rng.integers(len(items))), rng))
    return made


def learned(
    recipe: YoloFaceSheet, items: Sequence[Item], out: Path, unseen: Sequence[Item], workers: int
) -> dict[str, float | int | None]:
    """Train, load what was written as any command would, and measure it."""
    begun = time.monotonic()
    file = train(recipe, items, out, system="yolo", workers=workers, card={"preset": "face-sheet"})
    minutes = (time.monotonic() - begun) / 60
    loaded = catalog.load(file)
    return {"minutes": round(minutes, 1), "steps": recipe.steps, **evaluate(loaded.recipe, loaded.nets, unseen)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", help="sets as `visagist train` takes them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two runs")
    parser.add_argument("--steps", type=int, default=YoloFaceSheet.steps, help="steps on composed scenes")
    parser.add_argument("--by-heart", type=int, default=ByHeart.steps, help="steps on the same 50 scenes")
    parser.add_argument("--workers", type=int, default=1, help="processes that compose scenes")
    options = parser.parse_args()
    if options.data:
        seen, unseen = (read(options.data, fold=fold) for fold in ("train", "dev"))
    else:
        seen, unseen = (made_up.items(400, seed) + made_up.items(100, seed, size=256, faces=0) for seed in (1, 2))
    recipe = replace(YoloFaceSheet(), steps=options.steps)
    fifty = composites(recipe, seen, 50, seed=1)
    figures = {
        "by_heart": learned(ByHeart(steps=options.by_heart), fifty, options.out / "by_heart", fifty, options.workers),
        "unseen": learned(recipe, seen, options.out / "scenes", composites(recipe, unseen, 200, seed=2), options.workers),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
