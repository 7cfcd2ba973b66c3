"""What the readers of boxes share: the label for what is not to be judged, boxes that are boxes, files of a fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visagist.photo.boxes import Box
from visagist.photo.face import Face
from visagist.training.data.tables import FOLD_NAMES

IGNORE = "ignore"  # label of an area where somebody may be: neither to be found nor wrong to be found


def face_of(box: Box, label: str) -> Face:
    """A labelled face; ValueError for a box turned inside out or empty."""
    x0, y0, x1, y1 = box
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"an empty box: {x0:g} {y0:g} {x1:g} {y1:g}")
    return Face(box, label=label)


def of_fold(files: Sequence[Path], fold: str | None) -> list[Path]:
    """Files whose name speaks of the fold (`wider_face_val_bbx_gt.txt`) or of none."""
    kept = []
    for file in files:
        words = file.stem.lower().replace("-", "_").rstrip("0123456789").split("_")
        spoken = {FOLD_NAMES[word] for word in words if word in FOLD_NAMES}
        if fold in (None, "all") or not spoken or fold in spoken:
            kept.append(file)
    return kept
