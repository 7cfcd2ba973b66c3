"""Rendered people as a data set in a folder: `visagist people`, and from Python `write(folder, settings)`.

    person00007_000021.jpg    pictures
    people.csv                file, identity, fold, complete, width, height, x0, y0 ... x67, y67, yaw, pitch, roll, attributes
    kinds/….png               with masks: what each pixel shows, as numbers of `complexion.CLASSES`
    people.json               the settings; a folder is continued with its own settings only

Readable by `readers.read` like any set of faces with 68 points. The last tenth of the persons is fold dev, at least one where there
are two.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from visagist.errors import OutputError
from visagist.photo.photo import Photo, Step
from visagist.recipe import Item
from visagist.training.data import rendered
from visagist.training.data.kinds import POINT_COLUMNS

TABLE, SETTINGS, KINDS = "people.csv", "people.json", "kinds"
FACTS = ("yaw", "pitch", "roll", "male", "young", "eyeglasses", "facial_hair", "bald", "mouth_open", "smiling")


@dataclass(frozen=True)
class Settings:
    """What the pictures follow from, beside the version of this program."""

    count: int = 1000
    people: int = 400
    size: int = 160
    yaw: float = 90.0
    pitch: float = 30.0
    seed: int = 0
    masks: bool = False
    learnt: float = 0.0

    def items(self) -> list[Item]:
        """The pictures, to be drawn on first use."""
        return rendered.items(self.count, self.seed, **self._shown)

    def view(self, index: int) -> rendered.View:
        """One of them."""
        return rendered.view(index, self.seed, **self._shown)

    @property
    def _shown(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("size", "people", "yaw", "pitch", "learnt")}

    def name(self, index: int) -> str:
        """Its file."""
        return f"person{index % self.people:05}_{index:06}.jpg"

    def fold(self, index: int) -> str:
        """By person, of those that are shown: with fewer pictures than people the last are never drawn."""
        shown = min(self.count, self.people)
        return "dev" if index % self.people >= shown - max(shown // 10, int(shown > 1)) else "train"


def write(folder: Path, settings: Settings, *, processes: int = 1, overwrite: bool = False) -> Iterator[int]:
    """Draw the pictures that are not there yet, and at the end the table; yields how many are there after each.

    Stopped and called again it goes on. The result does not depend on `processes`. OutputError: "exists" where the folder holds
    other things, or people of other settings and `overwrite` is not set; "unwritable".
    """
    try:
        yield from _write(folder, settings, processes, overwrite)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", code="unwritable", path=folder) from error


def _write(folder: Path, settings: Settings, processes: int, overwrite: bool) -> Iterator[int]:
    wanted = asdict(settings)
    listed = folder / SETTINGS
    if listed.is_file() and not overwrite:
        try:
            same = {**asdict(Settings()), **json.loads(listed.read_text(encoding="utf-8"))} == wanted
        except (ValueError, TypeError):
            same = False
        if not same:
            hint = "name another folder, or give the settings of its people.json; --overwrite replaces its pictures"
            raise OutputError("people of other settings are in this folder", code="exists", path=folder, hint=hint)
    elif folder.exists() and not listed.is_file() and any(folder.iterdir()):
        raise OutputError("the folder holds other things", code="exists", path=folder, hint="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    if settings.masks:
        (folder / KINDS).mkdir(exist_ok=True)
    (folder / TABLE).unlink(missing_ok=True)  # a table stands for a whole set
    listed.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    if overwrite:
        for old in (*folder.glob("person*_*.jpg"), *(folder / KINDS).glob("person*_*.png")):
            old.unlink()
    numbers = sorted(
        range(settings.count), key=lambda index: (index % settings.people, index)
    )  # a person's pictures share its chart
    rows = {index: list[object]() for index in range(settings.count)}
    done = 0
    if processes > 1:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            for index, row in zip(numbers, pool.map(_one, repeat(folder), repeat(settings), numbers, chunksize=8), strict=True):
                rows[index] = row
                yield (done := done + 1)
    else:
        for index in numbers:
            rows[index] = _one(folder, settings, index)
            yield (done := done + 1)
    partial = folder / (TABLE + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "identity", "fold", "complete", "width", "height", *POINT_COLUMNS, *FACTS))
        writer.writerows(rows.values())
    os.replace(partial, folder / TABLE)


def _one(folder: Path, settings: Settings, index: int) -> list[object]:
    """Draw a picture if it is not there; its row of the table."""
    view, name = settings.view(index), settings.name(index)
    path, mask = folder / name, folder / KINDS / f"{name.removesuffix('.jpg')}.png"
    if not path.is_file() or (settings.masks and not mask.is_file()):
        pixels, kinds = view.drawn()
        made = Step("people", "morphable-head", settings={"seed": settings.seed, "number": index})
        if settings.masks:
            Photo.of(np.repeat(kinds[..., None], 3, axis=2)).edited(np.repeat(kinds[..., None], 3, axis=2), made).save(
                mask, overwrite=True
            )
        Photo.of(pixels).edited(pixels, made).save(path, overwrite=True)
    assert view.face.points is not None
    facts = view.facts()
    points = [f"{v:.2f}" for v in (view.face.points - 0.5).ravel()]
    shown = [f"{facts[name]:.1f}" if name in FACTS[:3] else int(facts[name]) for name in FACTS]
    return [name, f"person{index % settings.people:05}", settings.fold(index), 1, *view.size[::-1], *points, *shown]
