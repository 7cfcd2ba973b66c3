"""What the readers of boxes share: the label for what is not to be judged, boxes that are boxes, files of a fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from visagist.photo.boxes import Box, clipped
from visagist.photo.face import Face
from visagist.recipe import Item
from visagist.training.data.pictures import Picture
from visagist.training.data.tables import FOLD_NAMES, Offenders

IGNORE = "ignore"  # label of an area where somebody may be: neither to be found nor wrong to be found
ROUNDING = 1.0, 0.01  # a box may reach beyond its picture by so many pixels, or this part of the side; it is cut there
Line = int | None | Callable[[], int | None]


class UnknownClass(ValueError):
    """A box of a class that is not among those asked for."""


class Labelled:
    """The boxes of one picture, as its file tells them one after the other.

    A box that is wrong goes to the offenders. Where those are skipped the picture keeps its other boxes, and is no longer complete:
    something lies there that is labelled badly. What is of an unknown class is not looked for, so nothing is lost with it.
    """

    def __init__(self, picture: Picture, offenders: Offenders) -> None:
        self.picture, self.offenders = picture, offenders
        self.size = picture.extent()  # PhotoError when it is no picture
        self.faces: list[Face] = []
        self.complete = True

    def add(self, box: Callable[[], tuple[Box, str]], path: str | PathLike[str], line: Line, what: str = "") -> None:
        """The box and its class, or what `box()` raises as ValueError, from this line of the file; `what` stands before it."""
        try:
            self.faces.append(face_of(*box(), self.size, self.offenders.classes))
        except ValueError as e:
            self.complete &= isinstance(e, UnknownClass)
            self.offenders.add(path, line() if callable(line) else line, what + str(e))

    def declared(self, height: float, width: float) -> str:
        """What is wrong when the labels say this size; 0 stands for one that they do not say."""
        if (height and height != self.size[0]) or (width and width != self.size[1]):
            return f"labels for a picture of {width:g} x {height:g}, it is {self.size[1]} x {self.size[0]}"
        return ""

    def item(self) -> Item:
        return Item(self.picture.name, self.picture, tuple(self.faces), complete=self.complete)


def face_of(box: Box, label: str, size: tuple[int, int], classes: Sequence[str] = ()) -> Face:
    """A labelled face in a picture of size (height, width), cut at its border where it reaches over it by rounding.

    ValueError for corners that are swapped, no area, a box beyond the picture or a class that is not among `classes` (() for any).
    """
    x0, y0, x1, y1 = box
    told = f"{x0:g} {y0:g} {x1:g} {y1:g}"
    if x1 < x0 or y1 < y0:
        raise ValueError(f"swapped corners: {told}")
    if min(x1 - x0, y1 - y0) < 0.5:  # also what a box in parts of the picture looks like
        raise ValueError(f"an empty box: {told}")
    height, width = size
    slack_x, slack_y = (max(ROUNDING[0], ROUNDING[1] * side) for side in (width, height))
    if x0 < -slack_x or y0 < -slack_y or x1 > width + slack_x or y1 > height + slack_y:
        raise ValueError(f"a box beyond the picture: {told} in {width} x {height}")
    if classes and label != IGNORE and label not in classes:
        raise UnknownClass(f"class {label!r} is not among {', '.join(classes)}")
    return Face(clipped(box, size), label=label)


def of_fold(files: Sequence[Path], fold: str | None) -> list[Path]:
    """Files whose name speaks of the fold (`wider_face_val_bbx_gt.txt`) or of none."""
    kept = []
    for file in files:
        words = file.stem.lower().replace("-", "_").rstrip("0123456789").split("_")
        spoken = {FOLD_NAMES[word] for word in words if word in FOLD_NAMES}
        if fold in (None, "all") or not spoken or fold in spoken:
            kept.append(file)
    return kept
