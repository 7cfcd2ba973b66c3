"""Boxes as other programs write them: Pascal VOC, WIDER FACE, COCO, darknet, CSV."""

from __future__ import annotations

from pathlib import Path

from visagist.recipe import Item
from visagist.training.data.pictures import Pictures
from visagist.training.data.tables import Offenders, Table


def is_boxes(sheet: Table) -> bool:
    return sheet.has("file", "xmin", "ymin", "xmax", "ymax")


def sniff(folder: Path) -> str:
    return ""


def read(path: Path, offenders: Offenders) -> list[Item]:
    raise NotImplementedError


def boxes(sheet: Table, pictures: Pictures, fold: str | None, offenders: Offenders) -> list[Item]:
    raise NotImplementedError
