"""Pascal VOC annotations (Everingham et al., IJCV 2010, and its development kit)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from visagist.errors import PhotoError
from visagist.photo.boxes import Box
from visagist.recipe import Item
from visagist.training.data.labels import IGNORE, Labelled
from visagist.training.data.pictures import SUFFIXES, Picture, Pictures, pictures_of
from visagist.training.data.tables import FOLD_NAMES, Offenders, lines_of, number

log = logging.getLogger(__name__)

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Broken(ValueError):
    """A file that cannot be read; `line` where it is known."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


class Annotation(NamedTuple):
    """One XML file: its root, and the line on which each element begins."""

    file: Path
    root: Element
    lines: dict[Element, int]

    def corners(self, thing: Element) -> Box:
        """As they stand there. ValueError."""
        box = thing.find("bndbox")
        if box is None:
            raise ValueError("an object without name or bndbox")
        x0, y0, x1, y1 = (number((box.findtext(c) or "").strip()) for c in CORNERS)
        return x0, y0, x1, y1


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """One XML a picture, in the folder or in `Annotations`, pictures anywhere below; `ImageSets/Main/train.txt` ... are folds.

    Coordinates are 1-based and inclusive: the mins lose 1, the maxes stay. Where any min of the set, in whatever fold, is 0 it was
    written 0-based by hand, and then all of it is taken as 0-based and half-open. Elements may come in any order; parts inside an
    object (head, hand) are not objects. A DTD or an entity is refused: labels need none, and expanding them is how an XML file
    attacks.
    """
    root = path if path.is_dir() else path.parent.parent if path.parent.name == "Annotations" else path.parent
    pictures = pictures_of(root)
    wanted = _voc_ids(root, fold, offenders)
    chosen = set(files(path))
    used: list[Annotation] = []
    zero_based = ""
    for file in files(root):
        mine = file in chosen and (wanted is None or file.stem in wanted)
        try:
            annotation = _parse_xml(file)
        except Broken as e:
            if mine:
                offenders.add(file, e.line, str(e))
            continue
        zero_based = zero_based or _starts_at_zero(annotation)
        if mine:
            used.append(annotation)
    if zero_based:
        log.warning("%s: a box begins at 0, so the set is read as 0-based", zero_based)
    items = []
    for annotation in used:
        tree, lines, file = annotation.root, annotation.lines, annotation.file
        try:
            labelled = Labelled(
                _voc_picture(pictures, (tree.findtext("filename") or "").strip() or file.stem, file.stem), offenders
            )
            size = tree.find("size")
            if size is not None:
                height, width = (number((size.findtext(side) or "0").strip() or "0") for side in ("height", "width"))
                if problem := labelled.declared(height, width):
                    raise Broken(problem, lines[size])
        except (ValueError, PhotoError) as e:
            offenders.add(file, e.line if isinstance(e, Broken) else lines[tree], str(e))
            continue
        for thing in tree.findall("object"):
            labelled.add(_box(annotation, thing, zero_based=bool(zero_based)), file, lines[thing])
        items.append(labelled.item())
    return items


def files(path: Path) -> list[Path]:
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
        for count, line in enumerate(lines_of(file, offenders), 1):
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


def _starts_at_zero(annotation: Annotation) -> str:
    """The file and line of a box that begins at 0, or ""."""
    for thing in annotation.root.findall("object"):
        try:
            if 0 <= min(annotation.corners(thing)[:2]) < 1:
                return f"{annotation.file} line {annotation.lines[thing]}"
        except ValueError:
            continue
    return ""


def _box(annotation: Annotation, thing: Element, *, zero_based: bool) -> Callable[[], tuple[Box, str]]:
    def found() -> tuple[Box, str]:
        label = (thing.findtext("name") or "").strip()
        if not label:
            raise ValueError("an object without name or bndbox")
        x0, y0, x1, y1 = annotation.corners(thing)
        if x1 < x0 or y1 < y0:  # said with the numbers that stand there
            raise ValueError(f"swapped corners: {x0:g} {y0:g} {x1:g} {y1:g}")
        back = 0 if zero_based else 1
        difficult = (thing.findtext("difficult") or "").strip() == "1"
        return (x0 - back, y0 - back, x1, y1), IGNORE if difficult else label

    return found


def _parse_xml(file: Path) -> Annotation:
    """The file's elements; Broken for what is no XML, has a DTD or is no annotation."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    lines: dict[Element, int] = {}

    def refuse(*_: Any) -> NoReturn:
        raise Broken("a DTD is not allowed in annotations", parser.CurrentLineNumber)

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = lambda text: builder.data(text)
    try:
        parser.Parse(file.read_bytes(), True)
        root = builder.close()
    except (expat.ExpatError, OSError) as e:
        raise Broken(f"not readable XML ({e})", getattr(e, "lineno", None)) from None
    if root.tag != "annotation":
        raise Broken(f"<{root.tag[:40]}> instead of <annotation>", lines[root])
    return Annotation(file, root, lines)
