"""CIFAR-10 and CIFAR-100 in their binary files: 32 x 32 pictures behind one or two bytes of label.

    data_batch_1.bin ... test_batch.bin   CIFAR-10: label, then 1,024 red, 1,024 green, 1,024 blue bytes, each row by row
    train.bin, test.bin                   CIFAR-100: coarse label, fine label, then the same 3,072 bytes
    batches.meta.txt                      names of the classes, one a line; CIFAR-100: fine_label_names.txt, coarse_label_names.txt

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and the page of the set. `visagist convert` makes these
files of the pickled ones (`cifar_pickles.py`); nothing here opens a pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data.tables import FOLD_NAMES, Offenders, lines_of

SIDE = 32
PIXELS = 3 * SIDE * SIDE  # bytes of a picture
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAMES = "batches.meta.txt"
FINE, COARSE = "fine_label_names.txt", "coarse_label_names.txt"


def files(path: Path) -> list[Path]:
    """The binary files in this folder, or the path itself if it is one. Any file called .bin is taken for one, and checked."""
    return [file for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.suffix.lower() == ".bin"]


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """The pictures of a folder or file. facts["class"] names the class (CIFAR-100: the fine one, and facts["group"] the coarse)."""
    items: list[Item] = []
    for file in files(path):
        part = fold_of(file)
        if fold not in (None, "all") and part not in (None, fold):
            continue
        names, groups = _listed(file.parent / NAMES, offenders) or _listed(file.parent / FINE, offenders), None
        if (file.parent / FINE).exists() and not (file.parent / NAMES).exists():
            groups = _listed(file.parent / COARSE, offenders)
        try:
            labels, pictures = records(file.read_bytes(), fine=groups is not None or file.stem in ("train", "test"))
        except OSError as e:
            offenders.add(file, None, e.strerror or str(e))
            continue
        except ValueError as e:
            offenders.add(file, None, str(e))
            continue
        fine = labels[:, -1]
        names = names or (CLASSES if labels.shape[1] == 1 else tuple(f"class {i:02d}" for i in range(100)))
        if int(fine.max()) >= len(names):
            at = int(np.argmax(fine >= len(names)))
            offenders.add(file, None, f"picture {at + 1} has the label {fine[at]}, but there are {len(names)} classes")
            continue
        base: dict[str, float | str] = {"set": file.resolve().parent.name, **({"fold": part} if part else {})}
        for i, (label, picture) in enumerate(zip(labels.tolist(), pictures, strict=True)):
            facts = {**base, "class": names[label[-1]]}
            if groups and label[0] < len(groups):
                facts["group"] = groups[label[0]]
            items.append(Item(f"{file.name}:{i + 1}", Planes(picture), label=label[-1], facts=facts))
    return items


def records(data: bytes, *, fine: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels uint8 [N, 1 or 2] and pictures uint8 [N, 3, 32, 32] of the bytes of a file.

    fine  whether two labels are expected where the length fits both kinds
    ValueError says what is wrong with the length.
    """
    fitting = [labels for labels in ((2, 1) if fine else (1, 2)) if data and len(data) % (labels + PIXELS) == 0]
    if not fitting:
        what = f"{len(data):,} bytes are no whole number of pictures of {1 + PIXELS:,} bytes (CIFAR-100: {2 + PIXELS:,})"
        raise ValueError(what + "; the file is cut off or something else")
    rows = np.frombuffer(data, np.uint8).reshape(-1, fitting[0] + PIXELS)
    return rows[:, : fitting[0]], rows[:, fitting[0] :].reshape(-1, 3, SIDE, SIDE)


def fold_of(file: Path) -> str | None:
    """The fold that the name of a file speaks of: data_batch_2 and train are to learn from, test_batch and test are not."""
    return "train" if file.stem.startswith("data_batch") else FOLD_NAMES.get(file.stem.removesuffix("_batch"))


def write(path: Path, labels: Sequence[int] | np.ndarray, pictures: np.ndarray) -> None:
    """Write labels [N] and pictures uint8 [N, 3, 32, 32] as a binary file of CIFAR-10; labels [N, 2] as one of CIFAR-100."""
    marks = np.asarray(labels, np.uint8).reshape(len(pictures), -1)
    path.write_bytes(np.concatenate([marks, pictures.reshape(len(pictures), PIXELS)], 1).tobytes())


@dataclass(frozen=True, eq=False)
class Planes:
    """A picture uint8 [3, 32, 32] that becomes a photo when it is called."""

    planes: np.ndarray

    def __call__(self) -> Photo:
        return Photo.of(np.ascontiguousarray(self.planes.transpose(1, 2, 0)))


def _listed(path: Path, offenders: Offenders) -> tuple[str, ...]:
    """The names in a text file, one a line; none where there is no such file."""
    return tuple(line.strip() for line in lines_of(path, offenders) if line.strip()) if path.exists() else ()
