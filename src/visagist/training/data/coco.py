"""COCO annotations (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any

from visagist.errors import PhotoError
from visagist.photo.boxes import Box
from visagist.recipe import Item
from visagist.training.data.labels import IGNORE, Labelled, of_fold
from visagist.training.data.pictures import Pictures, pictures_of
from visagist.training.data.tables import Offenders, number


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """`instances_train.json`: images, annotations with bbox x, y, WIDTH, HEIGHT (0-based), categories whose ids have gaps.

    A crowd (iscrowd 1) is "ignore"; an image without annotations is a picture without faces.
    """
    items = []
    for file in of_fold(files(path), fold):
        try:
            content = _json(file)
        except JSONDecodeError as e:
            offenders.add(file, e.lineno, f"not readable as COCO labels ({e.msg})")
        except (ValueError, RecursionError, OSError) as e:
            offenders.add(file, None, f"not readable as COCO labels ({e})")
        else:
            pictures = pictures_of(file.parent if file.parent.name != "annotations" else file.parent.parent)
            items += _items(file, content, pictures, offenders)
    return items


def _items(file: Path, content: dict[str, Any], pictures: Pictures, offenders: Offenders) -> list[Item]:
    @cache
    def lines(key: str) -> list[int]:
        return lines_of_entries(file.read_text(encoding="utf-8-sig"), key)

    def line(key: str, number: int) -> int | None:
        return lines(key)[number] if number < len(lines(key)) else None

    names: dict[Any, str] = {}
    for i, category in enumerate(content["categories"]):
        try:
            names[category["id"]] = str(category["name"])
        except (KeyError, TypeError) as e:
            offenders.add(file, line("categories", i), f"a category without id and name ({e})")
    images: dict[Any, Labelled | None] = {}
    for i, image in enumerate(content["images"]):
        try:
            images[image["id"]] = _image(image, images, pictures, offenders)
        except (KeyError, TypeError, ValueError, PhotoError) as e:
            what = str(e) if isinstance(e, ValueError | PhotoError) else f"an image without id and file_name ({e})"
            offenders.add(file, line("images", i), what)
            if isinstance(image, dict) and isinstance(image.get("id"), int | str):
                images.setdefault(image["id"], None)
    for i, entry in enumerate(content["annotations"]):
        what = f"annotation {entry.get('id') if isinstance(entry, dict) else i}: "
        at = partial(line, "annotations", i)
        try:
            if entry["image_id"] not in images:
                raise ValueError(f"there is no image {entry['image_id']}")
            if (labelled := images[entry["image_id"]]) is not None:  # a bad image is named above, its annotations go with it
                labelled.add(_box(entry, names), file, at, what)
        except KeyError as e:
            offenders.add(file, at(), f"{what}no {e}")
        except (TypeError, ValueError) as e:
            offenders.add(file, at(), what + str(e))
    return [labelled.item() for labelled in images.values() if labelled is not None]


def _image(image: dict[str, Any], images: dict[Any, Any], pictures: Pictures, offenders: Offenders) -> Labelled:
    name = str(image["file_name"])
    if image["id"] in images:
        raise ValueError(f"two images with id {image['id']}")
    if problem := pictures.check(name):
        raise ValueError(problem)
    labelled = Labelled(pictures[name], offenders)
    if problem := labelled.declared(*(number(str(image.get(side) or 0)) for side in ("height", "width"))):
        raise ValueError(problem)
    return labelled


def _box(entry: dict[str, Any], names: dict[Any, str]) -> Callable[[], tuple[Box, str]]:
    def found() -> tuple[Box, str]:
        try:
            if entry["category_id"] not in names:
                raise ValueError(f"there is no category {entry['category_id']}")
            if len(entry["bbox"]) != 4:
                raise ValueError(f"a bbox of {len(entry['bbox'])} numbers instead of 4")
            x, y, w, h = (number(str(v)) for v in entry["bbox"])
        except KeyError as e:
            raise ValueError(f"no {e}") from None
        except TypeError as e:
            raise ValueError(str(e)) from None
        return (x, y, x + w, y + h), IGNORE if entry.get("iscrowd") else names[entry["category_id"]]

    return found


def files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    found = [p for folder in (path, path / "annotations") for p in sorted(folder.glob("*.json"))]
    return [p for p in found if b'"annotations"' in (data := p.read_bytes()) and b'"images"' in data]


def _json(file: Path) -> dict[str, Any]:
    """The content, which has the three lists. ValueError."""
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"no list of {key}")
    return dict(content)


def lines_of_entries(text: str, key: str) -> list[int]:
    """On which line of a JSON object each entry of its list `key` begins; json itself does not say. Only asked when one is bad."""
    decoder = json.JSONDecoder()

    def next_token(at: int) -> int:
        while text[at] in " \t\r\n,:":
            at += 1
        return at

    lines: list[int] = []
    at = next_token(text.index("{") + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        at = next_token(at)
        if name != key:
            at = next_token(decoder.raw_decode(text, at)[1])
            continue
        at, line, counted = next_token(at + 1), 1, 0
        while text[at] != "]":
            line, counted = line + text.count("\n", counted, at), at
            lines.append(line)
            at = next_token(decoder.raw_decode(text, at)[1])
        break
    return lines
