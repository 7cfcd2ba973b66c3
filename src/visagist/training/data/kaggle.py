"""The files of Kaggle's competition "Facial Keypoints Detection": read, and written.

    training.csv         the 30 columns of 15 points (empty: not labelled), then Image
    test.csv             ImageId (counts from 1), Image
    IdLookupTable.csv    RowId, ImageId, FeatureName and sometimes Location (empty or "?"): which numbers are asked for
    a submission         RowId, Location

Image is 9,216 whole numbers of 0..255, row by row. Columns are found by their names, so their order and number may differ; what a
file is, is seen from its header. Coordinates count from pixel centres: +0.5 makes them house coordinates. The files have no folds
and no people; columns `fold` and `person` are used where somebody added them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from visagist.errors import OutputError, TrainingError
from visagist.photo.face import POINTS15, Face
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data.tables import Offenders, Row, fact, header, in_fold, number, rows_of

SIZE = 96
COLUMNS = tuple(f"{name}_{axis}" for name in POINTS15 for axis in "xy")
IMAGE = "Image"
LOOKUP = ("RowId", "ImageId", "FeatureName")
SLACK = 0.25  # points may lie this much of the picture's size outside of it
_LEVELS = {str(value): value for value in range(256)}


def files(path: Path) -> list[Path]:
    """The csv files of the competition that lie in this folder, or the path itself if it is one."""
    return [file for file in _sheets(path) if IMAGE in (columns := header(file)) or set(LOOKUP) <= set(columns)]


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """The labelled rows of a folder or file: one picture of 96 x 96 a row, its face with 15 points, NaN where there is a gap."""
    items = []
    for file in files(path):
        columns = header(file)
        if IMAGE not in columns or not set(columns) & set(COLUMNS):
            continue  # test.csv and the lookup table have no labels
        if lacking := [name for name in COLUMNS if name not in columns]:
            offenders.add(file, 1, f"no column {', '.join(lacking[:3])}" + (" and others" if len(lacking) > 3 else ""))
            continue
        base = {"set": file.resolve().parent.name}
        for row in rows_of(file):
            if not isinstance(row, Row):
                offenders.add(file, *row)
            elif in_fold(row, fold):
                try:
                    drawing, face = Drawing(picture_of(row)), Face((0, 0, SIZE, SIZE), points=points_of(row), scheme="kaggle15")
                except ValueError as e:
                    offenders.add(file, row.line, str(e))
                    continue
                cells = {k: fact(v) for k, v in row.cells.items() if k not in COLUMNS and k != IMAGE and v}
                person = next((row.cells[c] for c in ("person", "identity") if row.cells.get(c)), None)
                items.append(Item(f"{file.name}:{row.line}", drawing, (face,), facts={**base, **cells}, person=person))
    return items


@dataclass(frozen=True, eq=False)
class Drawing:
    """A grey picture uint8 [H, W] that becomes a photo when it is called: seven thousand of them stay small."""

    grey: np.ndarray

    def __call__(self) -> Photo:
        return Photo.of(np.repeat(self.grey[..., None], 3, 2))


def picture_of(row: Row) -> np.ndarray:
    """The picture of a row, uint8 [96, 96]; ValueError says what is wrong with it."""
    values = row.cells[IMAGE].split()
    if len(values) != SIZE * SIZE:
        raise ValueError(f"Image has {len(values)} values instead of {SIZE * SIZE}")
    try:
        return np.frombuffer(bytes([_LEVELS[value] for value in values]), np.uint8).reshape(SIZE, SIZE)
    except KeyError:
        at, wrong = next((i, v) for i, v in enumerate(values) if v not in _LEVELS)
        raise ValueError(f"value {at + 1} of Image is {wrong[:20]!r}, not a whole number of 0 to 255") from None


def points_of(row: Row) -> np.ndarray:
    """The 15 points of a row in house coordinates, float64 [15, 2], NaN for empty cells; ValueError names the column."""
    values = np.full(len(COLUMNS), np.nan)
    for i, column in enumerate(COLUMNS):
        if cell := row.cells[column]:
            try:
                values[i] = number(cell)
            except ValueError as e:
                raise ValueError(f"{column}: {e}") from None
            if not -SLACK * SIZE <= values[i] <= (1 + SLACK) * SIZE:
                raise ValueError(f"{column}: {values[i]:g} is far outside the picture")
    return values.reshape(15, 2) + 0.5


def write_training(path: str | PathLike[str], rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write pictures uint8 [96, 96] and points [15, 2] (house coordinates, NaN for gaps) as the training.csv that `read` reads."""
    cells = ((*(_coordinate(v) for v in np.asarray(points, float).ravel()), _pixels(picture)) for picture, points in rows)
    _write(Path(path), (*COLUMNS, IMAGE), cells)


def write_test(path: str | PathLike[str], pictures: Iterable[np.ndarray]) -> None:
    """Write pictures uint8 [96, 96] as test.csv; their ids count from 1."""
    _write(Path(path), ("ImageId", IMAGE), ((str(i), _pixels(picture)) for i, picture in enumerate(pictures, 1)))


def _pixels(picture: np.ndarray) -> str:
    if picture.shape != (SIZE, SIZE) or picture.dtype != np.uint8:
        raise ValueError(f"a picture is uint8 [96, 96], this is {picture.dtype} {list(picture.shape)}")
    return " ".join(map(str, picture.ravel().tolist()))


def _coordinate(value: float) -> str:
    """A house coordinate as the files have it, in as few digits as give it back exactly; "" for a gap."""
    if np.isnan(value):
        return ""
    short = f"{value - 0.5:.12g}"
    return short if float(short) + 0.5 == value else repr(float(value) - 0.5)


# --- submissions


@dataclass(frozen=True)
class Asked:
    """One row of the lookup table: the number `column` (0..29) of a picture."""

    row: int
    image: int
    column: int


def submit(
    paths: Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    skip_bad: bool = False,
) -> int:
    """Write a submission for the test pictures among these folders and files; returns how many rows it has.

    predict   pictures uint8 [N, 96, 96] -> points [N, 15, 2] in their house coordinates
    skip_bad  leave bad rows out and log how many
    TrainingError no-data without test pictures or a lookup table, bad-data with the first five offenders; OutputError.
    """
    offenders = Offenders(skip_bad)
    found = [file for path in paths for file in files(Path(path))]
    tests = [file for file in found if {"ImageId", IMAGE} <= set(header(file))]
    lookups = [file for file in found if set(LOOKUP) <= set(header(file))]
    for some, what in ((tests, "test.csv (ImageId, Image)"), (lookups, "IdLookupTable.csv (RowId, ImageId, FeatureName)")):
        if len(some) != 1:
            hint = "give --data the folder with the competition's files"
            raise TrainingError(f"{len(some) or 'no'} files like {what}", code="no-data", path=paths[0], hint=hint)
    pictures = read_test(tests[0], offenders)
    asked = read_lookup(lookups[0], offenders, frozenset(pictures))
    offenders.settle()
    if not asked:
        raise TrainingError("nothing is asked for", code="no-data", path=lookups[0])
    points = predict(np.stack(list(pictures.values())))
    write_submission(out, asked, dict(zip(pictures, points, strict=True)))
    return len(asked)


def read_test(path: Path, offenders: Offenders) -> dict[int, np.ndarray]:
    """The pictures uint8 [96, 96] of a test.csv by their ImageId, in the file's order."""
    pictures: dict[int, np.ndarray] = {}
    for row in rows_of(path):
        if not isinstance(row, Row):
            offenders.add(path, *row)
            continue
        try:
            image = _whole(row, "ImageId")
            if image in pictures:
                raise ValueError(f"a second picture with ImageId {image}")
            pictures[image] = picture_of(row)
        except ValueError as e:
            offenders.add(path, row.line, str(e))
    return pictures


def read_lookup(path: Path, offenders: Offenders, images: frozenset[int]) -> list[Asked]:
    """What a lookup table asks for, in its order; `images` are the ids of the pictures there are."""
    columns = {name: i for i, name in enumerate(COLUMNS)}
    asked: dict[int, Asked] = {}
    for row in rows_of(path):
        if not isinstance(row, Row):
            offenders.add(path, *row)
            continue
        try:
            number_, image, name = _whole(row, "RowId"), _whole(row, "ImageId"), row.cells["FeatureName"]
            if number_ in asked:
                raise ValueError(f"a second row with RowId {number_}")
            if image not in images:
                raise ValueError(f"there is no picture with ImageId {image}")
            if name not in columns:
                raise ValueError(f"there is no feature {name[:40]!r}")
            asked[number_] = Asked(number_, image, columns[name])
        except ValueError as e:
            offenders.add(path, row.line, str(e))
    return list(asked.values())


def write_submission(path: str | PathLike[str], asked: Iterable[Asked], points: dict[int, np.ndarray]) -> None:
    """Write RowId, Location for what is asked; points [15, 2] in house coordinates by ImageId. Locations lie in [0, 96]."""
    rows = ((str(one.row), f"{np.clip(points[one.image].ravel()[one.column] - 0.5, 0, SIZE):.5f}") for one in asked)
    _write(Path(path), ("RowId", "Location"), rows)


def _whole(row: Row, column: str) -> int:
    if not (text := row.cells[column]).isascii() or not text.isdecimal():
        raise ValueError(f"{column}: {text[:20]!r} is not a whole number")
    return int(text)


def _sheets(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.csv"))
    return [path] if path.suffix.lower() == ".csv" else []


def _write(path: Path, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A csv file in one piece or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        try:
            with partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(names)
                writer.writerows(rows)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as e:
        raise OutputError(f"the file cannot be written: {e.strerror or e}", code="unwritable", path=path) from e
