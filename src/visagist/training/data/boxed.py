"""Boxes as other programs write them: Pascal VOC, WIDER FACE, COCO, darknet, CSV. The traps of each stand at its reader.

All become faces with house boxes (0-based, half-open, float) and the class name as label. What the format marks as not to be
judged (VOC difficult, WIDER invalid, COCO crowd) is labelled "ignore". All these formats promise that every object is labelled, so
the items are complete. What all of them check of a box stands in labels.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from visagist.errors import PhotoError, TrainingError
from visagist.photo.boxes import Box
from visagist.recipe import Item
from visagist.training.data import coco, darknet, voc, wider
from visagist.training.data.labels import IGNORE, Labelled
from visagist.training.data.pictures import Pictures
from visagist.training.data.tables import Offenders, Row, Table, fact, in_fold, number

FORMATS = (voc, wider, coco, darknet)  # each: files(path) -> the annotation files there; read(path, fold, offenders) -> items
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"))


def is_annotated(path: Path) -> bool:
    """Whether annotation files of one of the formats lie in this folder, or the path is one."""
    return any(form.files(path) for form in FORMATS)


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """The items of a folder or file in one of the formats; TrainingError when it is none of them."""
    for form in FORMATS:
        if form.files(path):
            return form.read(path, fold, offenders)
    raise TrainingError("no labels in a known format", code="no-data", path=path)


def is_boxes(sheet: Table) -> bool:
    """Whether the rows are file and box, and not points."""
    return any(sheet.has("file", *names) for names in CORNERS) and "x67" not in sheet.columns


def csv_boxes(sheet: Table, pictures: Pictures, fold: str | None, offenders: Offenders) -> list[Item]:
    """`file, xmin, ymin, xmax, ymax` and optionally `label`, `ignore` (1), `fold`: 0-based, half-open; several rows a file.

    A row with empty box cells says that the picture has no face; one without a label is a "face".
    """
    corners = next(names for names in CORNERS if sheet.has(*names))
    labelled: dict[str, Labelled] = {}
    rows: dict[str, Row] = {}
    for line, what in sheet.broken:
        offenders.add(sheet.path, line, what)
    for row in (r for r in sheet.rows if in_fold(r, fold)):
        name = row.cells["file"]
        try:
            if name not in labelled:
                if problem := pictures.check(name):
                    raise ValueError(problem)
                labelled[name], rows[name] = Labelled(pictures[name], offenders), row
        except (ValueError, PhotoError) as e:
            offenders.add(sheet.path, row.line, str(e))
            continue
        if any(row.cells[c] for c in corners):
            labelled[name].add(partial(_csv_box, row.cells, corners), sheet.path, row.line)
    shared = [c for c in sheet.columns if c not in (*corners, "file", "label", "ignore")]
    facts = {name: {c: fact(row.cells[c]) for c in shared if row.cells[c]} for name, row in rows.items()}
    return [replace(of.item(), name=name, facts=facts[name]) for name, of in labelled.items()]


def _csv_box(cells: Mapping[str, str], corners: Sequence[str]) -> tuple[Box, str]:
    x0, y0, x1, y1 = (number(cells[c]) for c in corners)
    return (x0, y0, x1, y1), IGNORE if cells.get("ignore") == "1" else cells.get("label") or "face"
