"""Pascal VOC annotations (Everingham et al., IJCV 2010, and its development kit)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from visagist.photo.boxes import Box
from visagist.recipe import Item
from visagist.training.data.labels import IGNORE, face_of
from visagist.training.data.pictures import SUFFIXES, Picture, Pictures, pictures_of
from visagist.training.data.tables import FOLD_NAMES, Offenders, number


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
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
    for file in files(path):
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
                faces.append(face_of((x0, y0, x1, y1) if zero_based else (x0 - 1, y0 - 1, x1, y1), label))
            except ValueError as e:
                offenders.add(picture.where, None, str(e))
        items.append(Item(picture.name, picture, tuple(faces)))
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
    x0, y0, x1, y1 = (number((box.findtext(c) or "").strip()) for c in ("xmin", "ymin", "xmax", "ymax"))
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
