"""Boxes as other programs write them: Pascal VOC, WIDER FACE, COCO, darknet, CSV. The traps of each stand at its reader.

All become faces with house boxes (0-based, half-open, float) and the class name as label. What the format marks as not to be
judged (VOC difficult, WIDER invalid, COCO crowd) is labelled "ignore". All these formats promise that every object is labelled, so
the items are complete.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from visagist.errors import PhotoError, TrainingError
from visagist.photo.boxes import Box
from visagist.photo.face import Face
from visagist.recipe import Item
from visagist.training.data.pictures import SUFFIXES, Picture, Pictures, pictures_of
from visagist.training.data.tables import FOLD_NAMES, Offenders, Row, Table, fact, in_fold, number

IGNORE = "ignore"
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"))
CLASS_FILES = ("classes.txt", "obj.names", "*.names")


def sniff(path: Path) -> str:
    """Which of the formats lies in this folder or file: "voc", "wider", "coco", "darknet" or ""."""
    if _xml_files(path):
        return "voc"
    if _wider_files(path):
        return "wider"
    if _coco_files(path):
        return "coco"
    return "darknet" if _darknet_files(path) else ""


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """The items of a folder or file in one of the formats; TrainingError when it is none of them."""
    readers = {"voc": voc, "wider": wider, "coco": coco, "darknet": darknet}
    kind = sniff(path)
    if not kind:
        raise TrainingError("no labels in a known format", code="no-data", path=path)
    return readers[kind](path, fold, offenders)


# ---- CSV ----


def is_boxes(sheet: Table) -> bool:
    """Whether the rows are file and box, and not points."""
    return any(sheet.has("file", *names) for names in CORNERS) and "x67" not in sheet.columns


def csv_boxes(sheet: Table, pictures: Pictures, fold: str | None, offenders: Offenders) -> list[Item]:
    """`file, xmin, ymin, xmax, ymax` and optionally `label`, `ignore` (1), `fold`: 0-based, half-open; several rows a file.

    A row with empty box cells says that the picture has no face.
    """
    corners = next(names for names in CORNERS if sheet.has(*names))
    faces: dict[str, list[Face]] = defaultdict(list)
    rows: dict[str, Row] = {}
    for line, what in sheet.broken:
        offenders.add(sheet.path, line, what)
    for row in (r for r in sheet.rows if in_fold(r, fold)):
        cells = row.cells
        try:
            if problem := pictures.check(cells["file"]):
                raise ValueError(problem)
            rows.setdefault(cells["file"], row)
            if any(cells[c] for c in corners):
                x0, y0, x1, y1 = (number(cells[c]) for c in corners)
                label = IGNORE if cells.get("ignore") == "1" else cells.get("label") or "face"
                faces[cells["file"]].append(_face((x0, y0, x1, y1), label))
        except ValueError as e:
            offenders.add(sheet.path, row.line, str(e))
    shared = [c for c in sheet.columns if c not in (*corners, "file", "label", "ignore")]
    return [
        Item(name, pictures[name], tuple(faces[name]), facts={c: fact(row.cells[c]) for c in shared if row.cells[c]})
        for name, row in rows.items()
    ]


# ---- Pascal VOC ----


def voc(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """One XML a picture, in the folder or in `Annotations`, pictures anywhere below; `ImageSets/Main/train.txt` ... are folds.

    Coordinates are 1-based and inclusive: the mins lose 1, the maxes stay. Where any min of the set is 0 it was written 0-based by
    hand, and then all of it is taken as 0-based and half-open. Elements may come in any order; parts inside an object (head, hand)
    are not objects. A DTD or an entity is refused: labels need none, and expanding them is how an XML file attacks.
    """
    root = path if path.is_dir() else path.parent
    pictures = pictures_of(root)
    wanted = _voc_ids(root, fold, offenders)
    drafts: list[tuple[Picture, list[tuple[Box, str]]]] = []
    zero_based = False
    for file in _xml_files(path):
        if wanted is not None and file.stem not in wanted:
            continue
        try:
            tree = _parse_xml(file)
            name = (tree.findtext("filename") or "").strip() or file.stem
            picture = _voc_picture(pictures, name, file.stem)
            boxes = [_voc_object(o) for o in tree.findall("object")]
        except ValueError as e:
            offenders.add(file, None, str(e))
            continue
        zero_based |= any(min(box[:2]) < 1 for box, _ in boxes)
        drafts.append((picture, boxes))
    items = []
    for picture, boxes in drafts:
        faces = []
        for (x0, y0, x1, y1), label in boxes:
            try:
                faces.append(_face((x0, y0, x1, y1) if zero_based else (x0 - 1, y0 - 1, x1, y1), label))
            except ValueError as e:
                offenders.add(picture.where, None, str(e))
        items.append(Item(picture.name, picture, tuple(faces)))
    return items


def _xml_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".xml" else []
    return sorted(path.glob("*.xml")) or sorted((path / "Annotations").glob("*.xml"))


def _voc_ids(root: Path, fold: str | None, offenders: Offenders) -> set[str] | None:
    """The picture ids of a fold, or None when all are wanted. Class files (`cat_train.txt`) and other lists are not folds."""
    lists = [p for p in sorted((root / "ImageSets" / "Main").glob("*.txt")) if p.stem in FOLD_NAMES]
    if fold in (None, "all") or not lists:
        return None
    ids: set[str] = set()
    for file in (p for p in lists if FOLD_NAMES[p.stem] == fold):
        for count, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if parts := line.split():
                ids.add(parts[0])
                if not any((root / d / f"{parts[0]}.xml").is_file() for d in ("Annotations", ".")):
                    offenders.add(file, count, f"{parts[0]} has no annotation")
    return ids


def _voc_picture(pictures: Pictures, name: str, stem: str) -> Picture:
    """The picture that an annotation is about: by its file name, or, as that is often left wrong by hand, by the XML's own stem."""
    for candidate in (name, *(stem + suffix for suffix in sorted(SUFFIXES))):
        if candidate in pictures:
            if problem := pictures.check(candidate):
                raise ValueError(problem)
            return pictures[candidate]
    raise ValueError(f"no picture named {name!r} in {pictures.where}")


def _voc_object(element: Element) -> tuple[Box, str]:
    label = (element.findtext("name") or "").strip()
    box = element.find("bndbox")
    if not label or box is None:
        raise ValueError("an object without name or bndbox")
    x0, y0, x1, y1 = (number((box.findtext(c) or "").strip()) for c in CORNERS[0])
    difficult = (element.findtext("difficult") or "").strip() == "1"
    return (x0, y0, x1, y1), IGNORE if difficult else label


def _parse_xml(file: Path) -> Element:
    """The root element; ValueError for what is no XML or has a DTD."""

    def refuse(*_: Any) -> NoReturn:
        raise ValueError("a DTD is not allowed in annotations")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = lambda tag, attributes: builder.start(tag, attributes)
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = lambda text: builder.data(text)
    try:
        parser.Parse(file.read_bytes(), True)
        return builder.close()
    except (expat.ExpatError, OSError) as e:
        raise ValueError(f"not readable XML ({e})") from None


# ---- WIDER FACE ----


def wider(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """`wider_face_train_bbx_gt.txt`: path, count of faces, then `x y w h blur expression illumination invalid occlusion pose` each.

    A picture without faces has count 0 and, in the original files, one line of zeros all the same. Boxes of no size occur and are
    left out; invalid = 1 is "ignore".
    """
    items = []
    for file in _of_fold(_wider_files(path), fold):
        pictures = pictures_of(file.parent if file.parent.name != "wider_face_split" else file.parent.parent)
        lines = file.read_text(encoding="utf-8").splitlines()
        at = 0
        while at < len(lines):
            name, line = lines[at].strip(), at + 1
            at += 1
            if not name:
                continue
            faces: list[Face] = []
            problem = ""
            try:
                count = int(lines[at])
                at += 1
            except (IndexError, ValueError):
                offenders.add(file, line, f"no count of faces after {name!r}")
                while at < len(lines) and not _is_picture(lines[at]):
                    at += 1
                continue
            taken = 0
            while at < len(lines) and not _is_picture(lines[at]) and (taken < max(count, 1)):
                try:
                    if (face := _wider_face(lines[at])) is not None and count:
                        faces.append(face)
                except ValueError as e:
                    problem = problem or f"line {at + 1}: {e}"
                taken, at = taken + 1, at + 1
            if taken < count:
                problem = problem or f"{count} faces announced, {taken} listed"
            while at < len(lines) and not _is_picture(lines[at]):
                problem = problem or (f"more than the {count} faces announced" if lines[at].strip() else "")
                at += 1
            if problem := problem or pictures.check(name):
                offenders.add(file, line, problem)
            else:
                items.append(Item(name, pictures[name], tuple(faces)))
    return items


def _wider_face(line: str) -> Face | None:
    values = [number(v) for v in line.split()]
    if len(values) < 4:
        raise ValueError(f"{len(values)} numbers instead of at least 4")
    x, y, w, h = values[:4]
    if w <= 0 or h <= 0:
        return None
    return Face((x, y, x + w, y + h), label=IGNORE if len(values) > 7 and values[7] == 1 else "face")


def _wider_files(path: Path) -> list[Path]:
    def fits(file: Path) -> bool:
        try:
            with file.open(encoding="utf-8") as text:
                return _is_picture(text.readline()) and text.readline().strip().isdigit()
        except (UnicodeDecodeError, OSError):
            return False

    if path.is_file():
        return [path] if path.suffix.lower() == ".txt" and fits(path) else []
    return [p for folder in (path, path / "wider_face_split") for p in sorted(folder.glob("*.txt")) if fits(p)]


def _is_picture(line: str) -> bool:
    return PurePosixPath(line.strip()).suffix.lower() in SUFFIXES


# ---- COCO ----


def coco(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """`instances_train.json`: images, annotations with bbox x, y, WIDTH, HEIGHT (0-based), categories whose ids have gaps.

    A crowd (iscrowd 1) is "ignore"; an image without annotations is a picture without faces.
    """
    items = []
    for file in _of_fold(_coco_files(path), fold):
        pictures = pictures_of(file.parent if file.parent.name != "annotations" else file.parent.parent)
        content = _json(file)
        names = {c["id"]: str(c["name"]) for c in content.get("categories", ())}
        faces: dict[Any, list[Face]] = {}
        images: dict[Any, str] = {}
        for image in content["images"]:
            if image["id"] in images:
                offenders.add(file, None, f"two images with id {image['id']}")
            elif problem := pictures.check(str(image["file_name"])):
                offenders.add(file, None, problem)
            else:
                images[image["id"]] = str(image["file_name"])
            faces.setdefault(image["id"], [])
        for a in content["annotations"]:
            try:
                if a["image_id"] not in faces:
                    raise ValueError(f"there is no image {a['image_id']}")
                if a["category_id"] not in names:
                    raise ValueError(f"there is no category {a['category_id']}")
                x, y, w, h = (number(str(v)) for v in a["bbox"])
                faces[a["image_id"]].append(_face((x, y, x + w, y + h), IGNORE if a.get("iscrowd") else names[a["category_id"]]))
            except KeyError as e:
                offenders.add(file, None, f"annotation {a.get('id')}: no {e}")
            except (TypeError, ValueError) as e:
                offenders.add(file, None, f"annotation {a.get('id')}: {e}")
        items += [Item(name, pictures[name], tuple(faces[of])) for of, name in images.items()]
    return items


def _coco_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    found = [p for folder in (path, path / "annotations") for p in sorted(folder.glob("*.json"))]
    return [p for p in found if b'"annotations"' in (data := p.read_bytes()) and b'"images"' in data]


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
        for key, wanted in (("images", ("id", "file_name")), ("annotations", ()), ("categories", ("id", "name"))):
            if any(w not in entry for entry in content[key] for w in wanted):
                raise ValueError(f"an entry of {key} lacks {' or '.join(wanted)}")
    except KeyError as e:
        raise TrainingError(f"not COCO labels: no {e}", code="bad-data", path=file) from e
    except (ValueError, TypeError) as e:
        raise TrainingError(f"not readable as COCO labels ({e})", code="bad-data", path=file) from e
    return dict(content)


# ---- darknet ----


def darknet(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """One text a picture with the same stem, beside it or in `labels/` for `images/`: `class cx cy w h`, 0..1 of the picture.

    The class is an index into a class file (`classes.txt` or `*.names`, one name a line), which must be there. An empty text says
    that there is nothing; a picture without a text is not labelled and so not complete. Pictures are decoded here for their size.
    """
    pictures = pictures_of(path)
    texts = {p.relative_to(path).with_suffix("").as_posix(): p for p in _darknet_files(path)}
    classes = next((p for pattern in CLASS_FILES for p in sorted(path.rglob(pattern))), None)
    if classes is None:
        raise TrainingError("no class file", code="bad-data", path=path, hint="write the names, one a line, into classes.txt")
    names = [line.strip() for line in classes.read_text(encoding="utf-8").splitlines() if line.strip()]
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
            faces = () if text is None else tuple(_darknet_faces(text, names, picture().size, offenders))
            items.append(Item(name, picture, faces, complete=text is not None))
        except (ValueError, PhotoError) as e:
            offenders.add(picture.where, None, str(e))
    return items


def _darknet_faces(text: Path, names: Sequence[str], size: tuple[int, int], offenders: Offenders) -> Iterable[Face]:
    height, width = size
    for count, line in enumerate(text.read_text(encoding="utf-8").splitlines(), 1):
        if not (parts := line.split()):
            continue
        try:
            if len(parts) != 5:
                raise ValueError(f"{len(parts)} values instead of 5")
            index, (cx, cy, w, h) = int(parts[0]), (number(v) for v in parts[1:])
            if not 0 <= index < len(names):
                raise ValueError(f"class {index} of {len(names)}")
            if not (0 <= cx <= 1 and 0 <= cy <= 1 and w <= 1 and h <= 1):
                raise ValueError("values outside of 0..1")
            yield _face(((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height), names[index])
        except ValueError as e:
            offenders.add(text, count, str(e))


def _darknet_files(path: Path) -> list[Path]:
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


# ---- all ----


def _face(box: Box, label: str) -> Face:
    """ValueError for a box turned inside out or empty."""
    x0, y0, x1, y1 = box
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"an empty box: {x0:g} {y0:g} {x1:g} {y1:g}")
    return Face(box, label=label)


def _of_fold(files: Sequence[Path], fold: str | None, names: Mapping[str, str] = FOLD_NAMES) -> list[Path]:
    """Files whose name speaks of the fold (`wider_face_val_bbx_gt.txt`) or of none."""
    kept = []
    for file in files:
        spoken = {names[word] for word in file.stem.lower().replace("-", "_").rstrip("0123456789").split("_") if word in names}
        if fold in (None, "all") or not spoken or fold in spoken:
            kept.append(file)
    return kept
