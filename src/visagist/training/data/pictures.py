"""Pictures of a data set, in tar files or folders, found by name; decoded on first use and then kept in memory.

Tar files are read in place: the index holds each member's offset, nothing is unpacked. What is decoded stays in memory while
all sets together need less than `MEMORY.limit` bytes; a process forked after `warm(items)` shares what is kept.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from visagist.errors import PhotoError, TrainingError
from visagist.photo import decoding
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data.tables import Offenders

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


@dataclass
class Memory:
    """How many bytes of decoded pixels this process may keep, and how many it keeps."""

    limit: int = 4 << 30
    used: int = 0


MEMORY = Memory()


@dataclass(eq=False)
class Picture:
    """One picture file, or one member of a tar file; calling it gives the photo. Can be sent to another process (without pixels).

    path    the picture file or the tar file
    name    name inside the folder or tar, with forward slashes
    offset  where the member's bytes begin
    size    how many there are; None for the whole file
    """

    path: Path
    name: str
    offset: int = 0
    size: int | None = None
    _photo: Photo | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """For messages."""
        return str(self.path) if self.size is None else f"{self.path}:{self.name}"

    def read(self) -> bytes:
        """The encoded bytes. OSError as the system gives it."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.size is None else self.size)

    def __call__(self) -> Photo:
        """The decoded photo; the same object every time as long as there is room to keep it. PhotoError when it is none."""
        if self._photo is not None:
            return self._photo
        try:
            data = self.read()
        except OSError as e:
            raise PhotoError(e.strerror or str(e), code="missing", path=self.where) from e
        photo = Photo.decode(data, path=Path(self.where))
        if MEMORY.used + photo.pixels.nbytes <= MEMORY.limit:
            MEMORY.used += photo.pixels.nbytes
            self._photo = photo
        return photo

    def extent(self) -> tuple[int, int]:
        """Height and width of the photo, from its header where that is enough. PhotoError when it is none."""
        if self._photo is not None or PurePosixPath(self.name).suffix.lower() not in (".jpg", ".jpeg", ".webp", ".bmp"):
            return self().size
        try:
            return decoding.upright_size(io.BytesIO(self.read()), path=self.where)
        except OSError as e:
            raise PhotoError(e.strerror or str(e), code="missing", path=self.where) from e

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_photo": None}


class Pictures(Mapping[str, Picture]):
    """Pictures by name; also by the last parts of a name where only one fits (`a.jpg` or `cats/a.jpg` for `images/cats/a.jpg`)."""

    def __init__(self, where: Path, found: Sequence[Picture]) -> None:
        self.where = where
        self.by_name = {picture.name: picture for picture in found}
        self.by_last: dict[str, list[Picture]] = {}
        for picture in found:
            self.by_last.setdefault(PurePosixPath(picture.name).name, []).append(picture)

    def __getitem__(self, name: str) -> Picture:
        name = name.replace("\\", "/").removeprefix("./")
        if name in self.by_name:
            return self.by_name[name]
        alike = self.by_last.get(PurePosixPath(name).name, [])
        fitting = [picture for picture in alike if f"/{picture.name}".endswith(f"/{name}")]
        if len(fitting) != 1 and len(alike) == 1:  # the list was written for another folder: VOC/JPEGImages/a.jpg for a.jpg
            fitting = alike
        if len(fitting) != 1:
            raise KeyError(name)
        return fitting[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def check(self, name: str) -> str:
        """What is wrong with this picture as far as its first and last bytes tell, or ""; a doubtful one is decoded to be sure."""
        if name not in self:
            return f"no picture named {name!r} in {self.where}"
        picture = self[name]
        try:
            with picture.path.open("rb") as file:
                size = picture.path.stat().st_size if picture.size is None else picture.size
                file.seek(picture.offset)
                head = file.read(min(size, 4))
                file.seek(picture.offset + max(0, size - 16))
                tail = file.read(min(size, 16))
        except OSError as e:
            return f"{picture.where}: {e.strerror}"
        whole = (head[:3] == b"\xff\xd8\xff" and tail[-2:] == b"\xff\xd9") or (head == b"\x89PNG" and b"IEND" in tail)
        if not whole:
            try:
                picture()
            except PhotoError as e:
                return e.line()
        return ""


def pictures_of(path: Path) -> Pictures:
    """All pictures below a folder, its tar files included, or in one tar file. In order of their names, folders before tars."""
    if path.is_file():
        return Pictures(path, _in_tar(path))
    loose = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith("._"))
    found = [Picture(p, p.relative_to(path).as_posix()) for p in loose]
    for tar in sorted(path.glob("*.tar")):
        found.extend(_in_tar(tar))
    return Pictures(path, found)


def has_pictures(path: Path) -> bool:
    """Whether a path is a loose picture, or a folder with one somewhere below it."""
    return any(p.suffix.lower() in SUFFIXES and p.is_file() for p in ([path] if path.is_file() else path.rglob("*")))


def _in_tar(path: Path) -> list[Picture]:
    try:
        with tarfile.open(path, "r:") as tar:
            return sorted(
                (
                    Picture(path, member.name.removeprefix("./"), member.offset_data, member.size)
                    for member in tar
                    if member.isreg() and PurePosixPath(member.name).suffix.lower() in SUFFIXES and "/._" not in f"/{member.name}"
                ),
                key=lambda p: p.name,
            )
    except (tarfile.TarError, OSError, EOFError) as e:
        raise TrainingError(
            f"not a readable tar file ({e})",
            code="bad-data",
            path=path,
            hint="pictures are read in place: pack without compression",
        ) from e


def warm(items: Sequence[Item], *, skip_bad: bool = False) -> list[Item]:
    """Decode every picture of the items now, so that damaged ones are named before training and forked workers share the pixels.

    Returns the items whose pictures are sound: all of them, or without the damaged ones with `skip_bad`.
    """
    offenders, sound = Offenders(skip_bad), []
    for item in items:
        try:
            for load in (item.load, *item.targets.values()):
                load()
            sound.append(item)
        except PhotoError as e:
            offenders.add(e.path or item.name, None, str(e))
    offenders.settle()
    return sound
