"""Pictures with the 15 points by name, in a csv or JSON beside them. Coordinates are pixel indices, as in every other csv.

    csv     file, left_eye_center_x, left_eye_center_y, ... : any of the 30 columns; an empty cell is a point that is not labelled.
            Several rows of one file are several faces. This is what `visagist landmarks --model keypoint-cnn --csv` prints.
    JSON    {"a.jpg": {"nose_tip": [48.5, 60.2], ...}, ...}, or a list of {"file": "a.jpg", "points": {...}} with several
            entries for several faces; null is a point that is not labelled

`fold`, `person` and `identity` mean what they mean elsewhere.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visagist.errors import TrainingError
from visagist.photo.face import POINTS15, Face, box_of_points
from visagist.recipe import Item
from visagist.training.data.kaggle import COLUMNS
from visagist.training.data.kinds import POINT_COLUMNS
from visagist.training.data.pictures import Pictures, pictures_of
from visagist.training.data.tables import Offenders, fact, header, number, table

OTHER = ("points", "file")


def is_named(columns: tuple[str, ...]) -> bool:
    """Whether a csv has a file and at least one of the 15 points in its rows."""
    return "file" in columns and any({x, y} <= set(columns) for x, y in zip(COLUMNS[::2], COLUMNS[1::2], strict=True))


def files(path: Path) -> list[Path]:
    """The csv and JSON files with named points that lie in this folder, or the path itself if it is one.

    None in a folder with a csv of 68 points: that is what the set is, and these were made from it.
    """
    if path.is_dir() and any(set(POINT_COLUMNS) <= set(header(file)) for file in path.glob("*.csv")):
        return []
    found = []
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.suffix.lower() == ".csv" and is_named(header(file)):
            found.append(file)
        elif file.suffix.lower() == ".json" and file.is_file():
            data = file.read_bytes()
            if b'"annotations"' not in data and any(f'"{name}"'.encode() in data for name in POINTS15):
                found.append(file)
    return found


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """The items of a folder or file. A picture may hold faces that are not labelled."""
    items = []
    for file in files(path):
        pictures = pictures_of(file.parent)
        faces: dict[str, list[Face]] = defaultdict(list)
        rows: dict[str, Mapping[str, str]] = {}
        for line, cells in _rows(file, offenders):
            name = cells.get("file", "")
            if fold not in (None, "all") and cells.get("fold", fold) != fold:
                continue
            try:
                if problem := pictures.check(name):
                    raise ValueError(problem)
                faces[name].append(_face(cells))
                rows.setdefault(name, cells)
            except ValueError as e:
                offenders.add(file, line, str(e))
        items += [_item(name, rows[name], tuple(faces[name]), pictures) for name in rows]
    return items


def _item(name: str, cells: Mapping[str, str], faces: tuple[Face, ...], pictures: Pictures) -> Item:
    facts = {k: fact(v) for k, v in cells.items() if k not in COLUMNS and k not in OTHER and v}
    person = next((cells[c] for c in ("person", "identity") if cells.get(c)), None)
    facts = {"set": pictures.where.resolve().name, **facts}
    return Item(name, pictures[name], faces, complete=False, facts=facts, person=person)


def _face(cells: Mapping[str, str]) -> Face:
    """The face of a row; its box is that of the points there are. ValueError says what is wrong."""
    values = np.full(len(COLUMNS), np.nan)
    for i, column in enumerate(COLUMNS):
        if cell := cells.get(column, ""):
            try:
                values[i] = number(cell)
            except ValueError as e:
                raise ValueError(f"{column}: {e}") from None
    points = values.reshape(15, 2) + 0.5
    there = points[np.isfinite(points).all(1)]
    if len(there) < 2 or max(np.ptp(there, axis=0)) <= 0:
        raise ValueError("fewer than two points with x and y in different places")
    return Face(box_of_points(there), points=points, scheme="kaggle15")


def _rows(file: Path, offenders: Offenders) -> Iterator[tuple[int | None, Mapping[str, str]]]:
    """Line and cells of each face of a file; a JSON's entries as the cells that a csv would have."""
    if file.suffix.lower() == ".csv":
        sheet = table(file)
        for line, what in sheet.broken:
            offenders.add(file, line, what)
        yield from ((row.line, row.cells) for row in sheet.rows)
        return
    try:
        content = json.loads(file.read_bytes())
        entries = [{"file": k, "points": v} for k, v in content.items()] if isinstance(content, dict) else list(content)
    except (ValueError, TypeError, RecursionError) as e:
        raise TrainingError(f"not readable as named points ({e})", code="bad-data", path=file) from e
    for number_, entry in enumerate(entries, 1):
        try:
            yield None, _cells(entry)
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            offenders.add(file, None, f"entry {number_}: {f'no {e}' if isinstance(e, KeyError) else e}")


def _cells(entry: Mapping[str, Any]) -> dict[str, str]:
    """An entry of a JSON as the cells of a csv."""
    if not isinstance(entry, dict) or not isinstance(entry.get("points", {}), dict):
        raise TypeError("not a file with its points by name")
    cells = {k: str(v) for k, v in entry.items() if k not in OTHER and isinstance(v, str | int | float)}
    cells["file"] = str(entry["file"])
    for name, place in entry["points"].items():
        if name not in POINTS15:
            raise ValueError(f"{cells['file']}: there is no point {str(name)[:40]!r}")
        if place is not None:
            if not isinstance(place, list) or len(place) != 2:
                raise ValueError(f"{cells['file']}: {name} is not [x, y]")
            cells |= {f"{name}_{axis}": str(v) for axis, v in zip("xy", place, strict=True)}
    return cells
