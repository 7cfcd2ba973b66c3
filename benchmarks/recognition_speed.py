"""How many pictures a second `visagist augment` makes, and how many faces a second the embedding knows. Needs no data:

    python benchmarks/recognition_speed.py [--page docs/recognize.md]

Augment    the portrait of Eileen Collins, cut to 256 px about the face, under names that make other variations of it each time; as
           the command does it, pictures written, one process and two; from the first photo that is finished to the last
Embedding  64 windows of 112 px at once, with their mirror images; threads as every command has them, and one
A machine that does other things makes all of it slower.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `augment` has it
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measuring import into_page
from skimage.data import astronaut

from visagist import api, catalog
from visagist.apps.augmenting import Failure, Work, _results
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.recognize.augment import Augment

SIDE, PHOTOS, EACH = 256, 40, 5


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    told: dict[str, float] = {f"renders_{count}": renders(count) for count in (1, 2)}
    loaded = catalog.load("embedding", "cpu")
    windows = list(np.random.default_rng(0).integers(0, 256, (64, 112, 112, 3), dtype=np.uint8))
    for name, count in (("faces_all_threads", torch.get_num_threads()), ("faces_1_thread", 1)):
        torch.set_num_threads(count)
        told[name] = 64 / quickest(lambda: loaded.recipe.vectors(loaded.nets, windows))
    print(json.dumps({**told, "cores": os.cpu_count(), "photos": PHOTOS, "each": EACH}))
    lines = ["| on two cores | a second |", "|---|---|"]
    lines += [f"| pictures of 256 px, `--processes {count}` | {told[f'renders_{count}']:.1f} |" for count in (1, 2)]
    lines += [
        f"| faces, {what} | {told[name]:.0f} |" for name, what in (("faces_1_thread", "one thread"), ("faces_all_threads", "two"))
    ]
    if given.page:
        into_page(given.page, "speed", "\n".join(lines))


def renders(processes: int) -> float:
    """Pictures a second."""
    photo = Photo.of(astronaut())
    faces = api.landmarks(photo)
    items = [(Item(f"{number}.png", Portrait(), faces), f"one/{number}") for number in range(PHOTOS)]
    work = Work(Augment(most=EACH), SIDE, "cpu")
    with TemporaryDirectory() as folder:
        begun, made = 0.0, 0
        for number, rows in enumerate(_results(work, items, Path(folder), processes)):
            if isinstance(rows, Failure):
                raise SystemExit(str(rows.error()))
            if number >= 4 * processes:  # what comes before holds the processes' start; they take four photos at a time
                made += len(rows)
            elif number == 4 * processes - 1:
                begun = time.perf_counter()
        return made / (time.perf_counter() - begun)


class Portrait:
    """The picture, in whatever process asks for it."""

    def __call__(self) -> Photo:
        return Photo.of(astronaut())


def quickest(do: Callable[[], object]) -> float:
    """Seconds, the least of five."""
    do()
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        do()
        taken.append(time.perf_counter() - begun)
    return min(taken)


if __name__ == "__main__":
    main()
