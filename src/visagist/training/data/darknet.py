"""darknet annotations, as YOLO's own program reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from visagist.errors import PhotoError, TrainingError
from visagist.photo.boxes import Box
from visagist.recipe import Item
from visagist.training.data.labels import Labelled
from visagist.training.data.pictures import SUFFIXES, pictures_of
from visagist.training.data.tables import FOLD_NAMES, Offenders, lines_of, number

CLASS_FILES = ("classes.txt", "obj.names", "*.names")


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """One text a picture with the same stem, beside it or in `labels/` for `images/`: `class cx cy w h`, 0..1 of the picture.

    The class is an index into a class file (`classes.txt` or `*.names`, one name a line), which must be there. An empty text says
    that there is nothing; a picture without a text is not labelled and so not complete.
    """
    pictures = pictures_of(path)
    texts = {p.relative_to(path).with_suffix("").as_posix(): p for p in files(path)}
    classes = next((p for pattern in CLASS_FILES for p in sorted(path.rglob(pattern))), None)
    if classes is None:
        raise TrainingError("no class file", code="bad-data", path=path, hint="write the names, one a line, into classes.txt")
    names = [line.strip() for line in lines_of(classes, offenders) if line.strip()]
    items = []
    for name, picture in pictures.items():
        parts = [FOLD_NAMES[part] for part in PurePosixPath(name).parts[:-1] if part in FOLD_NAMES]
        if fold not in (None, "all") and parts and fold not in parts:
            continue
        stem = PurePosixPath(name).with_suffix("").as_posix()
        text = texts.get(stem) or texts.get("/".join("labels" if part == "images" else part for part in stem.split("/")))
        try:
            if problem := pictures.check(name):
                raise ValueError(problem)
            labelled = Labelled(picture, offenders)
        except (ValueError, PhotoError) as e:
            offenders.add(picture.where, None, str(e))
            continue
        for count, line in enumerate([] if text is None else lines_of(text, offenders), 1):
            if line.strip():
                labelled.add(_box(line, names, labelled.size), str(text), count)
        items.append(labelled.item() if text is not None else replace(labelled.item(), complete=False))
    return items


def _box(line: str, names: Sequence[str], size: tuple[int, int]) -> Callable[[], tuple[Box, str]]:
    def found() -> tuple[Box, str]:
        parts = line.split()
        if len(parts) != 5:
            raise ValueError(f"{len(parts)} values instead of 5")
        index, (cx, cy, w, h) = number(parts[0]), (number(v) for v in parts[1:])
        if index != int(index) or not 0 <= index < len(names):
            raise ValueError(f"class {parts[0]} of {len(names)}")
        if not (0 <= cx <= 1 and 0 <= cy <= 1 and w <= 1.02 and h <= 1.02):
            raise ValueError("values outside of 0..1")
        height, width = size
        return ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height), names[int(index)]

    return found


def files(path: Path) -> list[Path]:
    """Texts that have a picture of the same stem, beside them or in `images/` for `labels/`."""
    if path.is_file():
        return []
    stems = {p.relative_to(path).with_suffix("").as_posix() for p in path.rglob("*") if p.suffix.lower() in SUFFIXES}
    found = []
    for text in sorted(path.rglob("*.txt")):
        stem = text.relative_to(path).with_suffix("").as_posix()
        if stem in stems or "/".join("images" if part == "labels" else part for part in stem.split("/")) in stems:
            found.append(text)
    return found
