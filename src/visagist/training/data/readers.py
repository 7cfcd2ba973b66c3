"""Read labelled pictures, whatever way they are written down: `read(paths) -> items`.

A path is a folder (pictures loose or in tar files, with a csv or annotation files), one such csv, annotation or tar file, or a
csv of 68 points for pictures of another path. What it is, is seen from the csv header and the names inside, never from its own
name:

    csv with file, x0, y0 ... x67, y67          faces with 68 points; without pictures beside it: points for the other paths
    csv with file, xmin, ymin, xmax, ymax       boxes (boxed.py); so are VOC, WIDER FACE, COCO and darknet files
    csv with left_eye_center_x ... and Image    rows of Kaggle's facial keypoints (kaggle.py)
    csv with file, left_eye_center_x ...        faces with 15 points (points15.py); so is a JSON with their names
    csv with file, synset, class                pictures without faces
    csv with file                               portraits: one person a picture
    folders bare and glaze or gloss             lips
    folders of pictures                         classes
    files .bin                                  classes, 32 x 32: CIFAR-10 and CIFAR-100 (cifar.py)
    files .npz, .obj                            meshes of one topology (meshes.py)

Further csv files with `file` (attributes.csv) add facts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from visagist.errors import TrainingError
from visagist.recipe import Item
from visagist.training.data import boxed, cifar, cifar_pickles, kaggle, kinds, meshes, points15
from visagist.training.data.pictures import Pictures, has_pictures, pictures_of
from visagist.training.data.tables import Offenders, Table, table

log = logging.getLogger(__name__)

StrPath = str | PathLike[str]
BARE = "name a csv of points, too: `visagist landmarks FOLDER --csv` writes one"


def read(
    paths: StrPath | Sequence[StrPath],
    *,
    fold: str | None = None,
    needs: Sequence[str] = (),
    skip_bad: bool = False,
    classes: Sequence[str] = (),
) -> list[Item]:
    """The items of one or several sets, in the order of the paths and of the rows.

    fold      "train", "dev" or any value of a set's `fold` column; None or "all" for every row. Sets without folds give every row
    needs     labels without which an item is of no use and left out: "points" (68 points), "keypoints" (any of the 15 points or
              the 68), "all keypoints" (without gaps), "mesh", "person", "label", "box" (faces, or the knowledge that there are
              none), or the name of a target ("glazed") or fact
    skip_bad  leave bad rows and damaged pictures out and log how many, instead of refusing the set
    classes   the labels that boxes may have; a box of another class is a bad row. () for any

    TrainingError bad-data names the first five offenders with file and line; no-data when nothing is left.
    Pictures are not decoded here (see `pictures.warm`), except those whose first or last bytes look wrong.
    """
    paths = [paths] if isinstance(paths, str | PathLike) else list(paths)
    offenders = Offenders(skip_bad, classes)
    items: list[Item] = []
    points: list[Table] = []
    folders_of_classes: list[Pictures] = []
    for path in (Path(p) for p in paths):
        if not path.exists():
            raise kinds.no_data(path, "no such file or folder")
        for one in _sets(path):
            items += _read_set(one, fold, offenders, points, folders_of_classes)
    items = kinds.with_points(items, points, offenders)
    names = sorted({of for pictures in folders_of_classes for name in pictures if (of := kinds.class_of(name)[1])})
    for pictures in folders_of_classes:
        items += kinds.classes(pictures, fold, names, offenders)
    offenders.settle()
    kept = [item for item in items if all(has(item, need) for need in needs)]
    if not kept:
        why = "no items" if not items else f"none of {len(items)} items has {' and '.join(needs)}"
        where = "" if fold in (None, "all") else f" in fold {fold!r}"
        hint = "" if not items or not {"points", "box"} & set(needs) else BARE
        raise TrainingError(why + where, code="no-data", path=paths[0] if paths else None, hint=hint)
    return kept


def has(item: Item, need: str) -> bool:
    """Whether an item carries a label that a recipe needs."""
    if need in ("keypoints", "all keypoints"):
        some = all if need.startswith("all") else any
        return any(f.points is not None and some(np.isfinite(f.points).all(1).tolist()) for f in item.faces)
    if need == "points":
        return any(face.scheme == "ibug68" for face in item.faces)
    if need in ("box", "boxes"):
        return bool(item.faces) or item.complete
    if need == "mesh":
        return bool(item.arrays)
    if need == "person":
        return item.person is not None or "class" in item.facts
    if need == "label":
        return item.label is not None
    return need in item.targets or need in item.facts


def check_classes(items: Sequence[Item], needs: Sequence[str], classes: Sequence[str] = ()) -> None:
    """TrainingError when there is nothing to be learnt from items: no box for a detector of these classes, or, where pictures are
    to be told apart, all of them of one class. A class without any box is said, not refused."""
    if classes:
        boxes = Counter(face.label for item in items for face in item.faces)
        if not any(boxes[name] for name in classes):
            raise TrainingError(f"no picture of {len(items)} has a box of {' or '.join(classes)}", code="no-data")
        if absent := [name for name in classes if not boxes[name]]:
            log.warning("no picture has a box of %s", ", ".join(absent))
    if "label" in needs and len({item.label for item in items}) < 2:
        raise TrainingError("all pictures are of one class", code="bad-data", hint="a folder for each class, at least two")


def _sets(path: Path) -> list[Path]:
    """The path itself, or the folders in it where it only holds folders of which some are sets with a csv, tar or annotations."""
    if path.is_file():
        return [path]
    inside = [p for p in sorted(path.iterdir()) if not p.name.startswith(".")]
    described = any(p.is_file() and p.suffix.lower() in (".csv", ".tar", ".json", ".txt", ".xml") for p in inside)
    if described or boxed.is_annotated(path):
        return [path]
    sets = [p for p in inside if p.is_dir() and (any(p.glob("*.csv")) or any(p.glob("*.tar")))]
    if sets and (left := [p.name for p in inside if p not in sets and has_pictures(p)]):
        what = f"{', '.join(left[:5])}{f' and {len(left) - 5} more' if len(left) > 5 else ''}"
        log.warning("only the sets in %s are read: %s; left out are pictures in %s", path, ", ".join(p.name for p in sets), what)
    return sets or [path]


def _read_set(path: Path, fold: str | None, offenders: Offenders, points: list[Table], class_folders: list[Pictures]) -> list[Item]:
    """The items of one set; tables of points alone and folders of classes are put aside for the end."""
    for form in (cifar, kaggle, points15, meshes):
        if form.files(path):
            return form.read(path, fold, offenders)
    folder = path if path.is_dir() else path.parent
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix not in ("", ".csv", ".tar"):
        return boxed.read(path, fold, offenders)
    pictures = pictures_of(folder if suffix == ".csv" else path)
    tables = [table(p) for p in sorted(folder.glob("*.csv"))]
    if kinds.is_lips(pictures):
        return kinds.lips(next((t for t in tables if t.has("number")), None), pictures, fold, offenders)

    tables = [t for t in tables if t.has("file")]
    named = [t for t in tables if t.path == path] if suffix == ".csv" else tables
    boxes = [t for t in named if boxed.is_boxes(t)]
    lists = sorted((t for t in named if t not in boxes and not kinds.is_pointed(t)), key=lambda t: _rank(t, folder))
    pointed = [t for t in named if kinds.is_pointed(t)]
    plain = [t for t in tables if not kinds.is_pointed(t)]
    beside = [t for t in pointed if _only_describes(t, plain, pictures)]  # landmarks68.csv
    points += beside
    pointed = [t for t in pointed if t not in beside]
    main = boxes or pointed or lists[:1]
    facts = kinds.rows_by_file(t for t in plain if t not in main and not boxed.is_boxes(t))

    if boxes:
        return [item for t in boxes for item in boxed.csv_boxes(t, pictures, fold, offenders)]
    if pointed:
        return [item for t in pointed for item in kinds.frames(t, pictures, facts, fold, offenders)]
    if lists:
        reader = kinds.backgrounds if lists[0].has("synset", "class") else kinds.portraits
        return reader(lists[0], pictures, facts, fold, offenders)
    if beside:
        return []
    if boxed.is_annotated(folder) and path.is_dir():
        return boxed.read(path, fold, offenders)
    if not pictures:
        hint = "`visagist convert` makes files of these pickles that are safe to read" if cifar_pickles.is_pickles(path) else ""
        raise kinds.no_data(path, "no pictures here", hint)
    class_folders.append(pictures)
    return []


def _rank(sheet: Table, folder: Path) -> tuple[bool, ...]:
    """Of several csv files, the one that lists the pictures comes first: it has the folds or the folder's name."""
    return not sheet.has("fold"), sheet.path.stem != folder.resolve().name, sheet.path.stem == "attributes"


def _only_describes(sheet: Table, lists: Sequence[Table], pictures: Pictures) -> bool:
    """Whether a csv of points lists no pictures of its own: nothing but points, and a proper list or no such pictures beside it."""
    if len(sheet.columns) > 1 + len(kinds.POINT_COLUMNS):
        return False
    return any(t.path.stem != "attributes" for t in lists) or not any(row.cells["file"] in pictures for row in sheet.rows)
