"""The sets that come as pictures and a csv: faces with 68 points, portraits, pictures without faces, lips, folders of classes.

Points in a csv are pixel indices (a point in the middle of pixel 3 has x = 3); +0.5 makes them house coordinates.
A `fold` column chooses rows; a set without one gives every row.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from visagist.errors import TrainingError
from visagist.photo.face import Face
from visagist.recipe import Item
from visagist.training.data.pictures import Picture, Pictures
from visagist.training.data.tables import FOLD_NAMES, Offenders, Row, Table, fact, in_fold, number

POINT_COLUMNS = tuple(f"{axis}{i}" for i in range(68) for axis in "xy")
PERSON_COLUMNS = ("identity", "person")
LIP_FOLDERS = {"bare": ("bare",), "glazed": ("glaze", "glazed"), "glossy": ("gloss", "glossy")}
PEOPLE = {"people", "person", "persons", "face", "faces", "man", "men", "woman", "women", "child", "children", "human", "humans"}
SLACK = 0.25  # points may lie this much of the picture's size outside of it: faces are cut by the border


def is_pointed(sheet: Table) -> bool:
    """Whether the table has a file and 68 points in every row."""
    return sheet.has("file", *POINT_COLUMNS)


def rows_by_file(sheets: Iterable[Table]) -> dict[str, Row]:
    """What the sheets say of each file, in one row; where two have the same column, the later."""
    merged: dict[str, Row] = {}
    for sheet in sheets:
        for row in sheet.rows:
            name = row.cells["file"]
            merged[name] = Row(row.line, {**merged[name].cells, **row.cells}) if name in merged else row
    return merged


def frames(sheet: Table, pictures: Pictures, attributes: Mapping[str, Row], fold: str | None, offenders: Offenders) -> list[Item]:
    """Pictures with 68 points a row (as youtube_faces_68). Several rows of one file are several faces.

    `complete` is False, because a crop of a frame can hold a second face that nobody labelled, unless a column `complete` says 1.
    """
    people: dict[str, list[tuple[Row, Face]]] = defaultdict(list)
    for row in _rows(sheet, fold, offenders):
        try:
            face = Face.of_points(points_of(row))
        except ValueError as e:
            offenders.add(sheet.path, row.line, str(e))
            continue
        if problem := pictures.check(row.cells["file"]) or _far_outside(row, face):
            offenders.add(sheet.path, row.line, problem)
            continue
        people[row.cells["file"]].append((row, face))
    items = []
    for name, found in people.items():
        cells = found[0][0].cells
        person = next((cells[c] for c in PERSON_COLUMNS if cells.get(c)), None)
        facts = _facts(pictures, cells, attributes.get(name), (*POINT_COLUMNS, *PERSON_COLUMNS, "complete"))
        faces, complete = tuple(f for _, f in found), all(row.cells.get("complete") == "1" for row, _ in found)
        items.append(Item(name, pictures[name], faces, complete=complete, facts=facts, person=person))
    return items


def portraits(
    sheet: Table, pictures: Pictures, attributes: Mapping[str, Row], fold: str | None, offenders: Offenders
) -> list[Item]:
    """One person a picture, no points (as portraits): where the face is, is not known until points are given (`with_points`).

    Who it is, says a column, else the name of the file.
    """
    return [
        Item(name, pictures[name], complete=False, facts=facts, person=_person(facts) or PurePosixPath(name).stem)
        for name, facts in _listed(sheet, pictures, attributes, fold, offenders)
    ]


def backgrounds(
    sheet: Table, pictures: Pictures, attributes: Mapping[str, Row], fold: str | None, offenders: Offenders
) -> list[Item]:
    """Pictures without any face (as backgrounds); that is known, so they are complete."""
    return [Item(name, pictures[name], facts=facts) for name, facts in _listed(sheet, pictures, attributes, fold, offenders)]


def with_points(items: Sequence[Item], sheets: Sequence[Table], offenders: Offenders) -> list[Item]:
    """The items, with faces from csv files `file, x0, y0 ... x67, y67` that lie apart from the pictures.

    An item that has no faces yet and whose file is listed gets its faces and becomes complete; the others stay as they are. Of
    two files that list the same picture the later counts.
    """
    faces: dict[str, list[Face]] = {}
    for sheet in sheets:
        of_sheet: dict[str, list[Face]] = defaultdict(list)
        for row in _rows(sheet, None, offenders):
            try:
                of_sheet[row.cells["file"]].append(Face.of_points(points_of(row)))
            except ValueError as e:
                offenders.add(sheet.path, row.line, str(e))
        faces.update(of_sheet)
    return [
        replace(item, faces=tuple(faces[item.name]), complete=True) if item.name in faces and not item.faces else item
        for item in items
    ]


def write_points(path: Path, points: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write (file, points [68, 2] in house coordinates) as the csv that `with_points` reads; in one piece or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", *POINT_COLUMNS))
        for name, xy in points:
            writer.writerow((name, *(f"{v:.2f}" for v in (np.asarray(xy).reshape(68, 2) - 0.5).ravel())))
    os.replace(partial, path)


def lips(sheet: Table | None, pictures: Pictures, fold: str | None, offenders: Offenders) -> list[Item]:
    """Pictures of one mouth with and without make-up: bare/NNN.png is the photo, glaze/NNN.png and gloss/NNN.png its targets.

    The folders must hold the same stems. With a csv (`number`, `fold`) its rows say which are used, else all are.
    """
    stems: dict[str, dict[str, Picture]] = defaultdict(dict)
    for name, picture in pictures.items():
        folder = PurePosixPath(name).parent.name
        for kind, names in LIP_FOLDERS.items():
            if folder in names:
                stems[kind][PurePosixPath(name).stem] = picture
    for stem in sorted(set().union(*stems.values())):
        if absent := [kind for kind in stems if stem not in stems[kind]]:
            offenders.add(pictures.where, None, f"{stem} is not among {' and '.join(absent)}")
    whole = {stem for stem in stems["bare"] if all(stem in of for of in stems.values())}
    facts: dict[str, dict[str, float | str]] = {stem: {"set": _set_name(pictures)} for stem in sorted(whole)}
    if sheet is not None:
        facts = {}
        for row in _rows(sheet, fold, offenders):
            stem = row.cells["number"]
            if stem in whole:
                facts[stem] = _facts(pictures, row.cells, None, ("number",))
            elif not any(stem in of for of in stems.values()):  # a stem that only some folders hold is named above
                offenders.add(sheet.path, row.line, f"no pictures numbered {stem}")
    for stem in list(facts):
        if problem := next((p for of in stems.values() if (p := pictures.check(of[stem].name))), ""):
            offenders.add(pictures.where, None, problem)
            del facts[stem]
    targets = [kind for kind in stems if kind != "bare"]
    return [
        Item(
            stems["bare"][stem].name,
            stems["bare"][stem],
            complete=False,
            targets={k: stems[k][stem] for k in targets},
            facts=facts[stem],
        )
        for stem in facts
    ]


def is_lips(pictures: Pictures) -> bool:
    """Whether there is a folder of bare lips and at least one of a finish."""
    folders = {PurePosixPath(name).parent.name for name in pictures}
    return "bare" in folders and any(n in folders for kind, names in LIP_FOLDERS.items() if kind != "bare" for n in names)


def classes(pictures: Pictures, fold: str | None, names: Sequence[str], offenders: Offenders) -> list[Item]:
    """Pictures in folders named after their class: `cat/1.jpg`, or `train/cat/1.jpg` and `test/cat/1.jpg`, which are folds.

    Pictures of a class in a fold show that class alone, so unless it is one of people they hold no face and are complete.
    `label` counts through `names`, the classes in alphabetical order, facts["class"] is the name.
    Pictures in no folder, or in nothing but a fold's folder, get no label.
    """
    index = {c: i for i, c in enumerate(names)}
    base = {"set": _set_name(pictures)}
    found = []
    for name, picture in pictures.items():
        part, of = class_of(name)
        if fold in (None, "all") or part in (None, fold):
            if problem := pictures.check(name):
                offenders.add(picture.where, None, problem.removeprefix(f"{picture.where}: "))
            else:
                found.append((picture, part, of))
    return [
        Item(
            picture.name,
            picture,
            complete=part is not None and of is not None and not PEOPLE & set(of.lower().replace("-", "_").split("_")),
            label=None if of is None else index[of],
            facts={**base, **({"fold": part} if part else {}), **({"class": of} if of else {})},
        )
        for picture, part, of in found
    ]


def class_of(name: str) -> tuple[str | None, str | None]:
    """The fold and the class that a picture's folders speak of, each None where they do not."""
    folders = PurePosixPath(name).parts[:-1]
    part = FOLD_NAMES.get(folders[0]) if folders else None
    rest = folders if part is None else folders[1:]
    return part, rest[-1] if rest else None


def points_of(row: Row) -> np.ndarray:
    """The 68 points of a row in house coordinates, float64 [68, 2]; ValueError says what is wrong with them."""
    try:
        points = np.array([float(row.cells[c]) for c in POINT_COLUMNS]).reshape(68, 2) + 0.5
        sound = bool(np.isfinite(points).all())
    except ValueError:
        sound = False
    if not sound:  # say which cell it is
        for column in POINT_COLUMNS:
            try:
                number(row.cells[column])
            except ValueError as e:
                raise ValueError(f"{column}: {e}") from None
    if min(np.ptp(points, axis=0)) <= 0:
        raise ValueError("the points lie on one line")
    return points


def _far_outside(row: Row, face: Face) -> str:
    """Points much outside the picture are in other coordinates; checked where the row tells the picture's size."""
    try:
        size = np.array([number(row.cells["width"]), number(row.cells["height"])])
    except (KeyError, ValueError):
        return ""
    assert face.points is not None
    outside = np.maximum(-face.points, face.points - size).max(0) / size
    return f"points lie up to {outside.max():.0%} of the picture outside of it" if outside.max() > SLACK else ""


def _rows(sheet: Table, fold: str | None, offenders: Offenders) -> list[Row]:
    for line, what in sheet.broken:
        offenders.add(sheet.path, line, what)
    return [row for row in sheet.rows if in_fold(row, fold)]


def _listed(
    sheet: Table, pictures: Pictures, attributes: Mapping[str, Row], fold: str | None, offenders: Offenders
) -> list[tuple[str, dict[str, float | str]]]:
    """Names of the sheet's sound pictures, each once, with their facts."""
    listed: dict[str, dict[str, float | str]] = {}
    for row in _rows(sheet, fold, offenders):
        name = row.cells["file"]
        if problem := pictures.check(name) or ("listed twice" if name in listed else ""):
            offenders.add(sheet.path, row.line, problem)
        else:
            listed[name] = _facts(pictures, row.cells, attributes.get(name), ())
    return list(listed.items())


def _facts(pictures: Pictures, cells: Mapping[str, str], attributes: Row | None, without: Sequence[str]) -> dict[str, float | str]:
    """Every column but the labels, the attributes' too, and `set`: the name of the folder."""
    merged = {**cells, **(attributes.cells if attributes else {})}
    kept = {k: fact(v) for k, v in merged.items() if k != "file" and k not in without and v != ""}
    return {"set": _set_name(pictures), **kept}


def _person(facts: Mapping[str, float | str]) -> str | None:
    """Who it is, as a column tells it; a number without decimals as it was written."""
    told = next((facts[column] for column in PERSON_COLUMNS if column in facts), None)
    return f"{told:.15g}" if isinstance(told, float) else told


def _set_name(pictures: Pictures) -> str:
    return pictures.where.resolve().name if pictures.where.is_dir() else pictures.where.stem


def no_data(path: Path, what: str, hint: str = "") -> TrainingError:
    return TrainingError(what, code="no-data", path=path, hint=hint)
