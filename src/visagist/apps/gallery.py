"""A folder of people whose faces are known: one vector for each photo, kept in an index file beside them.

A person is the folder in which its photos lie, or the name of a photo that lies in no folder of its own. The index is a safetensors
file: vectors, and as text the photos they are of. It is made anew where it does not fit the photos or the weights; what a stopped
search has looked at is kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.apps import batch, beside
from visagist.errors import FaceError, OutputError, PhotoError, UsageError, VisagistError

if TYPE_CHECKING:
    import numpy as np

    from visagist.apps.batch import Job

INDEX = "visagist-gallery.safetensors"
FORMAT = 1
EQUAL = 1 - 1e-5  # score from which on two files hold the same picture
MAX_INDEX_BYTES = 1 << 30
EVERY = 60.0  # seconds after which what was looked at is kept, so that not even a power cut loses more
Stamp = tuple[str, int, int]  # a photo's place below the folder, its bytes, when it was changed (ns)


@dataclass(frozen=True, eq=False)
class Gallery:
    """photos: places below the folder; people: who each shows; vectors float32 [N, D] of unit length; remarks: what one should know
    before searching."""

    photos: tuple[str, ...]
    people: tuple[str, ...]
    vectors: np.ndarray
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, photos: Sequence[str], vectors: np.ndarray) -> Gallery:
        """The people of these photos; a person's picture that is there several times counts once."""
        import numpy as np

        people = [person_of(photo) for photo in photos]
        alike = [
            (a + start, int(b))
            for start in range(0, len(photos), 1024)  # all at once need too much memory
            for a, b in np.argwhere(vectors[start : start + 1024] @ vectors.T >= EQUAL).tolist()
            if a + start < b
        ]
        twice = {b for a, b in alike if people[a] == people[b]}
        shared = sorted({tuple(sorted((people[a], people[b]))) for a, b in alike if people[a] != people[b]})
        kept = [i for i in range(len(photos)) if i not in twice]
        remarks = [f"{len(twice)} of {len(photos)} photos are there twice and count once"] if twice else []
        remarks += [f"{one} and {other} have the same photo: one of them is somebody else" for one, other in shared]
        if len(set(people)) == 1:
            remarks.append(f"{people[0]} is the only person here and so always the nearest; only the score says if it is them")
        return cls(tuple(photos[i] for i in kept), tuple(people[i] for i in kept), vectors[kept], tuple(remarks))

    @property
    def names(self) -> list[str]:
        return sorted(set(self.people))

    def nearest(self, vector: np.ndarray, top: int) -> list[dict[str, Any]]:
        """The people most like this vector: score with the mean of their vectors, and their likest photo."""
        import numpy as np

        single = self.vectors @ vector
        found: list[dict[str, Any]] = []
        for name in self.names:
            own = [i for i, person in enumerate(self.people) if person == name]
            mean = self.vectors[own].mean(0)
            score = float(np.clip(mean @ vector / max(float(np.linalg.norm(mean)), 1e-12), -1, 1))
            found.append({"person": name, "score": round(score, 4), "photo": self.photos[max(own, key=lambda i: single[i])]})
        return sorted(found, key=lambda one: one["score"], reverse=True)[:top]


def open_gallery(
    folder: str,
    known: Callable[[str], np.ndarray],
    *,
    weights: str,
    dimensions: int,
    index: str | None = None,
    jobs: Sequence[Job] = (),
    overwrite: bool = False,
    failed: Callable[[VisagistError], None],
    told: Callable[[str, float], None] = lambda text, done: None,
) -> Gallery:
    """The people of a folder; photos that the index does not know are looked at, and the index is written again.

    known      the vector of the largest face in the photo of this path; FaceError where there is none
    weights    sha256 of the network that makes the vectors
    index      where the index lies, default: in the folder
    jobs       the photos that are searched for, and where their copies go: the index replaces none of them
    overwrite  whether `index` may replace a file that is none
    failed     is told of each photo that cannot be used, and of an index that cannot be written
    UsageError "empty-gallery" where nobody is left, "exists", "in-place" and "output-clash" for a place where no index may lie.
    """
    import numpy as np

    hint = "a folder for each person, or a photo named after each"
    if not os.path.isdir(folder):
        what = "this is no folder" if os.path.lexists(folder) else "there is no such folder"
        raise UsageError(what, code="empty-gallery", path=folder, hint=f"a gallery is a folder of photos: {hint}")
    photos, marked = batch.collect([folder])
    if len(photos) == 1 and photos[0].name == folder and photos[0].error is not None:  # the folder is empty, or cannot be read
        raise UsageError(photos[0].error.what, code="empty-gallery", path=folder, hint=hint)
    if index is not None:
        _check(index, jobs, photos, overwrite)
    place = Path(index or os.path.join(folder, INDEX))
    kept, found = read_index(place, weights, dimensions), dict[Stamp, Any]()
    written = time.monotonic()

    def keep(vectors: Mapping[Stamp, Any]) -> None:
        if vectors.keys() != kept.keys():
            try:
                write_index(place, list(vectors), np.stack(list(vectors.values())).astype(np.float32), weights)
            except OutputError as error:
                error.hint = "the search goes on without it; --index names another place"
                failed(error)

    try:
        for number, job in enumerate(photos):
            told(job.relative, number / len(photos))
            try:
                stamp, vector = _looked_up(job, kept, known)
            except (PhotoError, FaceError) as error:
                error.path = error.path or job.name
                failed(error)
                continue
            found[stamp] = vector
            if time.monotonic() - written > EVERY:
                keep({**kept, **found})
                written = time.monotonic()
    except BaseException:  # Ctrl-C above all: the same command goes on from here
        keep({**kept, **found})
        raise
    if not found:
        raise UsageError(_nobody(len(photos), marked), code="empty-gallery", path=folder, hint=hint)
    keep(found)
    people = Gallery.of([name for name, _, _ in found], np.stack(list(found.values())).astype(np.float32))
    remarks = (f"{marked} made by visagist left out",) if marked else ()
    return replace(people, remarks=remarks + people.remarks)


def _nobody(photos: int, marked: int) -> str:
    """Why a gallery has no people."""
    if marked and not photos:
        return f"every picture here ({marked}) was made by visagist, and those are left out"
    return "no photo in the gallery shows a face" + (f", and {marked} made by visagist are left out" if marked else "")


def _check(index: str, jobs: Sequence[Job], photos: Sequence[Job], overwrite: bool) -> None:
    """An index of a name that somebody chose replaces another index, an empty file, or with `overwrite` what is no photo of the
    command. UsageError."""
    if os.path.isdir(index):
        raise UsageError("an index is a file, not a folder", code="usage", path=index, hint="name a file in it")
    beside.guard(jobs, {"index": [index]}, read=[job.name for job in photos])
    if os.path.lexists(index) and not overwrite and not is_index(Path(index)):
        hint = "choose another name; --overwrite replaces it"
        raise UsageError("the file exists and is no index of a gallery", code="exists", path=index, hint=hint)


def person_of(photo: str) -> str:
    """The folder right below the gallery in which a photo lies, or the photo's own name."""
    parts = Path(photo).parts
    return parts[0] if len(parts) > 1 else Path(photo).stem


def _looked_up(job: Job, kept: dict[Stamp, Any], known: Callable[[str], np.ndarray]) -> tuple[Stamp, np.ndarray]:
    if job.error is not None:
        raise job.error
    try:
        about = os.stat(job.name)
    except OSError as error:  # gone since the folder was walked
        raise PhotoError(f"the file cannot be read: {error.strerror}", code="missing", path=job.name) from None
    stamp = (Path(job.relative).as_posix(), about.st_size, about.st_mtime_ns)
    return stamp, kept[stamp] if stamp in kept else known(job.name)


def is_index(place: Path) -> bool:
    """Whether a file is the index of some gallery, of whatever weights, or holds nothing at all."""
    from safetensors import SafetensorError, safe_open

    try:
        if place.stat().st_size == 0:
            return True
        with safe_open(place, framework="np") as file:
            return "gallery" in (file.metadata() or {})
    except (OSError, SafetensorError, ValueError):
        return False


def read_index(place: Path, weights: str, dimensions: int) -> dict[Stamp, np.ndarray]:
    """The vectors of an index by photo; nothing of a file that is no index of these weights, or is damaged in any way."""
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        if place.stat().st_size > MAX_INDEX_BYTES:
            return {}
        with safe_open(place, framework="np") as file:
            about = json.loads((file.metadata() or {})["gallery"])
            vectors = file.get_tensor("vectors")
        if about["format"] != FORMAT or about["weights"] != weights:
            return {}
        stamps = [(str(name), int(size), int(time)) for name, size, time in about["photos"]]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}
    sound = vectors.dtype == np.float32 and vectors.shape == (len(stamps), dimensions)
    if not sound or not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        return {}
    return dict(zip(stamps, vectors, strict=True))


def write_index(place: Path, stamps: Sequence[Stamp], vectors: np.ndarray, weights: str) -> None:
    """The index file, whole or not at all. OutputError "unwritable"."""
    from safetensors.numpy import save

    from visagist.weights.card import write_atomically

    about = json.dumps({"format": FORMAT, "weights": weights, "photos": list(stamps)})
    write_atomically(place, save({"vectors": vectors}, {"gallery": about}))
