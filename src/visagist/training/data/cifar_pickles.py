"""The pickled files of CIFAR, turned into binary ones. The only place that opens pickles, and only when asked to convert.

    cifar-10-batches-py    data_batch_1 ... data_batch_5, test_batch, batches.meta
    cifar-100-python       train, test, meta

A pickle can call whatever it names. These hold dictionaries of bytes, lists, numbers and NumPy arrays, so nothing but what
NumPy needs to make an array can be named here; a pickle that names anything else is refused before it is called.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visagist.errors import OutputError, TrainingError
from visagist.training.data import cifar

LARGEST = 400_000_000  # bytes; CIFAR-100's train has 155 million
BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))


def _latin1(text: str, coding: str) -> bytes:
    """How Python 3 writes bytes for Python 2: as text in this coding."""
    if coding != "latin1":
        raise pickle.UnpicklingError(f"it writes bytes as {coding[:20]!r}")
    return text.encode("latin1")


# What a pickled array of numbers names: its maker, its class and the type of its numbers. NumPy's own module moved in version 2.
_ALLOWED: Mapping[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0] for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class _Numbers(pickle.Unpickler):
    """Unpickles what the set's files hold and names nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module[:40]}.{name[:40]}, which no picture needs")
        return _ALLOWED[module, name]


def is_pickles(path: Path) -> bool:
    """Whether a folder holds pickled files of CIFAR, by their names."""
    return path.is_dir() and any((path / name).is_file() for name in (*BATCHES, "test_batch", "train", "test"))


def convert(source: Path, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the pickled files of the folder `source` as binary files into the folder `out`; returns what was written.

    TrainingError bad-data for a file that is none of the set's; OutputError exists, unwritable. All is read before anything is
    written.
    """
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    names: dict[str, list[str]] = {}
    for file in sorted(source.iterdir()):
        if file.name in (*BATCHES, "test_batch", "train", "test"):
            made[file.name + ".bin"] = batch(file)
        elif file.name in ("batches.meta", "meta"):
            names |= _names(file)
    if not made:
        raise TrainingError("no pickled files of CIFAR here", code="no-data", path=source, hint="data_batch_1 ... or train, test")
    present = [name for name in (*made, *names) if os.path.lexists(out / name)]
    if present and not overwrite:
        hint = "choose another folder with --out; --overwrite replaces it"
        raise OutputError("exists already", code="exists", path=out / present[0], hint=hint)
    try:
        out.mkdir(parents=True, exist_ok=True)
        draft = out / ".part"  # each file appears under its name complete or not at all
        for name, (labels, pictures) in made.items():
            cifar.write(draft, labels, pictures)
            draft.replace(out / name)
        for name, lines in names.items():
            draft.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            draft.replace(out / name)
    except OSError as e:
        raise OutputError(f"cannot be written ({e.strerror})", code="unwritable", path=out) from e
    return [out / name for name in (*made, *names)]


def batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels uint8 [N, 1], or [N, 2] (coarse, fine), and pictures uint8 [N, 3, 32, 32] of a pickled file. TrainingError."""
    found = _load(file)
    pictures, labels = found.get(b"data"), [found[key] for key in (b"coarse_labels", b"fine_labels", b"labels") if key in found]
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.shape[1:] != (cifar.PIXELS,):
        raise _bad(file, f"its data are not uint8 [N, {cifar.PIXELS}]")
    for of in labels:
        if not isinstance(of, list) or len(of) != len(pictures) or not all(type(i) is int and 0 <= i < 256 for i in of):
            raise _bad(file, f"its labels are not {len(pictures)} small numbers")
    if not labels or not len(pictures):
        raise _bad(file, "it holds no labelled picture")
    return np.array(labels, np.uint8).T, pictures.reshape(-1, 3, cifar.SIDE, cifar.SIDE)


def _names(file: Path) -> dict[str, list[str]]:
    """File name -> names of classes, of a pickled batches.meta or meta."""
    found = _load(file)
    out = {}
    for key, name in ((b"label_names", cifar.NAMES), (b"fine_label_names", cifar.FINE), (b"coarse_label_names", cifar.COARSE)):
        if key in found:
            lines = found[key]
            if not isinstance(lines, list) or not all(isinstance(line, bytes) for line in lines):
                raise _bad(file, f"its {key.decode()} are no names")
            out[name] = [line.decode("utf-8", errors="replace").strip() for line in lines]
    return out


def _load(file: Path) -> dict[Any, Any]:
    """The dictionary in a pickled file."""
    try:
        if file.stat().st_size > LARGEST:
            raise _bad(file, f"it is larger than {LARGEST // 1_000_000} MB")
        with file.open("rb") as opened:
            found = _Numbers(opened, encoding="bytes").load()
    except OSError as e:
        raise _bad(file, e.strerror or str(e)) from e
    except TrainingError:
        raise
    except Exception as e:  # a damaged pickle can raise anything
        raise _bad(file, f"no pickle of pictures ({str(e).splitlines()[0] if str(e) else type(e).__name__})") from e
    if not isinstance(found, dict):
        raise _bad(file, "it holds no dictionary")
    return found


def _bad(file: Path, what: str) -> TrainingError:
    return TrainingError(what, code="bad-data", path=file, hint="is it CIFAR's, and complete?")
