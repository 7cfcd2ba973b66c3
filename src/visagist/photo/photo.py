"""A photo: upright RGB pixels, what came with them, and how they were made.

    photo = Photo.open("portrait.jpg")
    edited = photo.edited(pixels, Step("makeup", "lipstick", weights="0f3a...", settings={"finish": "glossy"}))
    edited.save("portrait.makeup.jpg")

Reading is in `decoding`, writing in `encoding`, the mark in `mark`.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from visagist.errors import OutputError, PhotoError, VisagistError
from visagist.photo import decoding, encoding, mark
from visagist.photo.decoding import MAX_PIXELS, Encoding
from visagist.photo.mark import Step

__all__ = ["MAX_PIXELS", "Encoding", "Photo", "Step", "is_marked", "read_history"]

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright photo in memory; immutable.

    pixels    uint8 [H, W, 3], read-only, in sRGB or in the RGB profile `icc`
    alpha     uint8 [H, W], read-only, or None
    icc       the RGB profile the colours are in, written back with them; None for sRGB
    format    what it was decoded from: "JPEG", "PNG", "WEBP", "TIFF" or "BMP"
    encoding  how it was encoded, EXIF and foreign XMP, for writing it back alike
    history   what visagist did to it so far, from the mark in its XMP
    notes     what reading it had to give up: "16 bits per channel were reduced to 8", ...

    An array that is still writeable is copied, so that nobody can change the photo from outside.
    """

    pixels: np.ndarray = field(repr=False)
    alpha: np.ndarray | None = field(default=None, repr=False)
    icc: bytes | None = field(default=None, repr=False)
    format: str = "PNG"
    encoding: Encoding = field(default_factory=Encoding, repr=False)
    history: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"a photo is uint8 [H, W, 3] with H, W >= 1, not {pixels.dtype} {list(pixels.shape)}")
        if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != pixels.shape[:2]):
            raise ValueError(f"alpha is uint8 {list(pixels.shape[:2])}, not {alpha.dtype} {list(alpha.shape)}")
        object.__setattr__(self, "pixels", _read_only(pixels))
        object.__setattr__(self, "alpha", None if alpha is None else _read_only(alpha))

    @classmethod
    def open(cls, path: StrPath, *, max_pixels: int = MAX_PIXELS) -> Photo:
        """The photo in a file. The name says nothing about the format; EXIF orientation is applied.

        max_pixels  larger pictures are refused after a look at the header, before a pixel is decoded
        Raises PhotoError: missing, empty, not-a-photo, truncated (or otherwise damaged), too-large, unsupported.
        """
        with _opened(path) as file:
            return cls._decoded(decoding.decode(file, path=path, max_pixels=max_pixels))

    @classmethod
    def decode(cls, data: bytes, *, path: StrPath | None = None, max_pixels: int = MAX_PIXELS) -> Photo:
        """The photo in the bytes of a file; `path` is only named in errors. Raises PhotoError like `open`."""
        return cls._decoded(decoding.decode(io.BytesIO(data), path=path, max_pixels=max_pixels))

    @classmethod
    def of(cls, pixels: np.ndarray, format: str = "PNG") -> Photo:
        """A photo of an array uint8 [H, W, 3] in sRGB, to be written as `format`. ValueError for any other array."""
        return cls(pixels=pixels, format=format)

    @classmethod
    def _decoded(cls, found: decoding.Decoded) -> Photo:
        return cls(
            pixels=found.pixels,
            alpha=found.alpha,
            icc=found.icc,
            format=found.format,
            encoding=found.encoding,
            history=mark.read(found.encoding.xmp).steps,
            notes=found.notes,
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def extension(self) -> str:
        """What the name of a copy in the same format ends in; ".png" for BMP, which holds no metadata."""
        return {"JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif"}.get(self.format, ".png")

    def on_white(self) -> np.ndarray:
        """Pixels uint8 [H, W, 3]; what is transparent shows white."""
        if self.alpha is None:
            return self.pixels
        alpha = self.alpha[:, :, None] / np.float32(255)
        return np.rint(self.pixels * alpha + 255 * (1 - alpha)).astype(np.uint8)

    def edited(self, pixels: np.ndarray, step: Step) -> Photo:
        """The photo with new pixels uint8 [H', W', 3] and one step more in its history. Alpha is scaled along with the size."""
        alpha = self.alpha
        if alpha is not None and alpha.shape != pixels.shape[:2]:
            scaled = Image.fromarray(alpha).resize(pixels.shape[1::-1], Image.Resampling.BILINEAR)
            alpha = np.asarray(scaled)
        return replace(self, pixels=pixels, alpha=alpha, history=(*self.history, step))

    def save(self, path: StrPath, *, overwrite: bool = False) -> tuple[str, ...]:
        """Write the photo; the ending of the name gives the format, quality follows the file it came from.

        JPEG keeps quantization tables and subsampling, WEBP its kind and (estimated) quality, TIFF its compression; EXIF stays
        without orientation, thumbnail and maker's notes, with GPS; foreign XMP stays with the mark added. Transparency is laid
        on white where the file is to be a JPEG.

        The file appears under its name complete or not at all: it is written beside it under a temporary name, flushed to the
        disk and renamed. A temporary file that a killed process left is taken over by the next write of the same name.

        Returns notes on what the format could not hold.
        Raises OutputError: exists, unwritable, unsupported (a name that does not end in jpg, png, webp or tif, a picture too
        large for the format).
        """
        target = Path(path)
        format_ = encoding.FORMATS.get(target.suffix.lower(), "")
        if not format_:
            what = f"pictures cannot be written as {target.suffix or 'a file without an ending'}"
            raise OutputError(what, code="unsupported", path=path, hint="use .jpg, .png, .webp or .tif")
        xmp, notes = mark.write(self.history, self.encoding.xmp, limit=encoding.LARGEST_XMP[format_])
        with _replacing(target, overwrite=overwrite) as file:
            lost = encoding.encode(
                file, format_, self.pixels, self.alpha, self.icc, came=self.format, encoding=self.encoding, xmp=xmp
            )
        return (*notes, *lost)


def is_marked(path: StrPath) -> bool:
    """Whether the file is a photo with our mark, judged without decoding it. False for everything else."""
    return bool(read_history(path))


def read_history(path: StrPath) -> tuple[Step, ...]:
    """The steps in the mark of a file, judged without decoding it; empty for photos without a mark and for what is no photo."""
    try:
        with _opened(path) as file:
            return mark.read(decoding.read_xmp(file, path=path)).steps
    except PhotoError:
        return ()


def _read_only(array: np.ndarray) -> np.ndarray:
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
    array.setflags(write=False)
    return array


@contextmanager
def _opened(path: StrPath) -> Iterator[IO[bytes]]:
    """A regular file for reading. A pipe or a device would block or never end."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PhotoError("this is not a file", code="missing", path=path)
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise PhotoError("there is no such file", code="missing", path=path) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise PhotoError(f"the file cannot be read: {_reason(error)}", code="missing", path=path) from error


@contextmanager
def _replacing(target: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """A file that takes the target's name when all went well, and vanishes otherwise."""
    part: Path | None = None
    try:
        if os.path.lexists(target) and not overwrite:
            raise OutputError("the file exists already", code="exists", path=target)
        digest = hashlib.sha1(os.fsencode(target.name), usedforsecurity=False).hexdigest()[:12]
        part = target.parent / f".visagist-{digest}.part"
        with _locked(part) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if overwrite:
                    with suppress(OSError):
                        os.chmod(part, stat.S_IMODE(os.stat(target).st_mode))
                    os.replace(part, target)
                else:
                    _move_to_new(part, target)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part)
                raise
    except FileExistsError as error:
        raise OutputError("the file exists already", code="exists", path=target) from error
    except VisagistError as error:
        error.path = error.path or os.fspath(target)
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"the file cannot be written: {_reason(error)}", code="unwritable", path=target) from error


def _move_to_new(part: Path, target: Path) -> None:
    """Give the file its name, unless that exists by now (FileExistsError)."""
    try:
        os.link(part, target)  # unlike a rename, a link never replaces a file
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        os.replace(part, target)
    else:
        os.unlink(part)


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """The temporary file, empty and ours alone; the system frees it when the process dies."""
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            _lock(file)
            try:
                same = os.path.samestat(os.fstat(file.fileno()), os.stat(part))
            except FileNotFoundError:
                same = False
            if same:  # otherwise another process has just given this very file its final name
                file.truncate()
                yield file
                return


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows refuses to rename or remove an open file by itself
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError("another process is writing this file", code="unwritable") from error
    except OSError:  # a file system without locks
        return


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
