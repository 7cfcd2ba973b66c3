"""From the bytes of a file to upright RGB pixels, with Pillow alone.

The content decides the format, never the name. Sizes are checked on the header, before a pixel is decoded. Whatever a damaged
or hostile file makes Pillow raise leaves here as a PhotoError.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import BmpImagePlugin, Image, ImageCms, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.Image import Transpose

from visagist.errors import PhotoError
from visagist.photo import exif, webp

MAX_PIXELS = 50_000_000  # what a photo may have unless the caller says otherwise

_SNIFF = 64  # bytes that tell the format


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """The first picture of a JPEG file; phones put several into one."""

    def _read_dpi_from_exif(self) -> None:
        """Not while the header is read: damaged EXIF would make the picture unreadable."""


_READERS: dict[str, Any] = {
    "JPEG": _Jpeg,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
# EXIF orientation -> what turns the stored picture upright.
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_warnings_lock = threading.Lock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise its errors go to the standard error stream


@dataclass(frozen=True)
class Encoding:
    """How the file was encoded and what else it said, kept so that it can be written back alike.

    tables       JPEG quantization tables, luminance then chroma, 64 numbers each; empty where there are none
    subsampling  JPEG chroma: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0, -1 unknown
    progressive  JPEG
    lossless     WEBP
    quality      WEBP 0..100, estimated from the quantizer of the file; -1 unknown
    compression  TIFF, Pillow's name, "" for none
    dpi          dots per inch (x, y) or None
    exif         ready to be written back: no orientation, no thumbnail, no maker's note
    xmp          as found
    iptc         the older form of caption, credit and copyright that JPEG carries, as found
    """

    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: int = -1
    progressive: bool = False
    lossless: bool = False
    quality: float = -1
    compression: str = ""
    dpi: tuple[float, float] | None = None
    exif: bytes = field(default=b"", repr=False)
    xmp: bytes = field(default=b"", repr=False)
    iptc: bytes = field(default=b"", repr=False)


class Decoded(NamedTuple):
    """pixels uint8 [H, W, 3] upright; alpha uint8 [H, W] or None; icc an RGB profile or None; what was lost in notes."""

    pixels: np.ndarray
    alpha: np.ndarray | None
    icc: bytes | None
    format: str
    encoding: Encoding
    notes: tuple[str, ...]


def decode(stream: IO[bytes], *, path: str | os.PathLike[str] | None = None, max_pixels: int = MAX_PIXELS) -> Decoded:
    """The photo in a seekable stream. Raises PhotoError: empty, not-a-photo, truncated, too-large, unsupported."""
    image, format_ = _opened(stream, path, max_pixels)
    notes: list[str] = []
    with _trouble(path, "the picture is damaged or cut short", "truncated"):
        if _has_more_frames(image):
            notes.append("the file holds several pictures: the first is used")
        depth = _bits(image, stream, format_)
        if image.mode in ("I", "F"):
            raise PhotoError(f"pixels of {depth} bits are not supported", code="unsupported", path=path, hint="save it with 8 bits")
        if format_ == "TIFF":
            with _quiet(), _mute():  # reads EXIF while it loads
                image.load()
        else:
            image.load()
    if format_ == "JPEG" and any(name == "APP11" and b"c2pa" in data for name, data in image.applist):
        notes.append("the content credentials (C2PA) cannot be carried over to an edited copy")
    encoding = _encoding(image, stream, format_)
    with _quiet():
        orientation, kept, trouble = exif.read(image)
    notes += trouble
    encoding = replace(encoding, exif=kept, xmp=_xmp(image))
    with _trouble(path, "the picture cannot be converted to RGB", "unsupported"):
        plain, icc = _rgb(image, depth, notes)
        del image
        if orientation in _UPRIGHT and format_ != "TIFF":  # Pillow turns TIFFs by itself
            plain = plain.transpose(_UPRIGHT[orientation])
        array = np.asarray(plain)
        del plain
    if array.shape[2] == 3:
        return Decoded(array, None, icc, format_, encoding, tuple(notes))
    pixels, alpha = np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3])
    return Decoded(pixels, alpha, icc, format_, encoding, tuple(notes))


def upright_size(stream: IO[bytes], *, path: str | os.PathLike[str] | None = None) -> tuple[int, int]:
    """Height and width of what `decode` gives, from the header where that tells. Raises PhotoError like `decode`."""
    image, format_ = _opened(stream, path, MAX_PIXELS)
    if format_ not in ("JPEG", "WEBP", "BMP"):  # PNG may tell its orientation behind the pixels, Pillow turns TIFFs by itself
        stream.seek(0)
        height, width = decode(stream, path=path).pixels.shape[:2]
        return height, width
    with _quiet():
        orientation = exif.read(image)[0]
    width, height = image.size
    return (width, height) if orientation >= 5 else (height, width)


def read_xmp(stream: IO[bytes], *, path: str | os.PathLike[str] | None = None) -> bytes:
    """The XMP packet of a photo, b"" for none, without decoding pixels. Raises PhotoError like `decode`."""
    image, format_ = _opened(stream, path, max_pixels=1 << 60)
    return _xmp(image) or (_late_png_xmp(stream) if format_ == "PNG" else b"")


def _opened(stream: IO[bytes], path: str | os.PathLike[str] | None, max_pixels: int) -> tuple[Any, str]:
    """The photo with its header read, and its format."""
    head = stream.read(_SNIFF)
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if not length:
        raise PhotoError("the file is empty", code="empty", path=path)
    format_ = _format(head, path)
    too_large = "the picture has {} million pixels, more than the limit of {} million"

    def check(width: int, height: int) -> None:
        if width * height > max_pixels:
            text = too_large.format(f"{width * height / 1e6:.0f}", f"{max_pixels / 1e6:g}")
            raise PhotoError(text, code="too-large", path=path, hint="make it smaller or raise the limit")

    if length > (64 << 20) + 16 * max_pixels:
        raise PhotoError("the file is larger than any photo within the limit", code="too-large", path=path)
    if format_ == "WEBP":  # its reader reserves the whole canvas before it says how large it is
        check(*webp.size(head))
    what = "the header is damaged or cut short" if len(head) == _SNIFF else "the file ends within its header"
    with _trouble(path, what, "not-a-photo" if format_ == "BMP" else "truncated"), _quiet():
        image = _READERS[format_](stream)
    width, height = image.size
    check(width, height)
    if width < 1 or height < 1:
        raise PhotoError("the picture has no pixels", code="not-a-photo", path=path)
    if format_ == "TIFF":  # a small picture may claim vast tiles, which libtiff would reserve
        tags = image.tag_v2
        sides = (tags.get(322, 0), tags.get(323, 0))
        if not all(isinstance(side, int) for side in sides) or sides[0] * sides[1] > max(max_pixels, 1 << 24):
            raise PhotoError("the picture's tiles are out of proportion", code="too-large", path=path)
    return image, format_


def _format(head: bytes, path: str | os.PathLike[str] | None) -> str:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    others = {b"GIF8": "GIF", b"%PDF": "PDF", b"%!PS": "PostScript", b"8BPS": "Photoshop", b"\0\0\x01\0": "icon"}
    name = next((name for start, name in others.items() if head.startswith(start)), "")
    if head[4:8] == b"ftyp":
        name = "AVIF" if head[8:11] == b"avi" else "HEIC" if head[8:10] in (b"he", b"mi", b"ms") else "video"
    elif b"<svg" in head.lower():
        name = "SVG"
    if name:
        raise PhotoError(f"{name} files are not supported", code="unsupported", path=path, hint="save it as JPEG or PNG")
    raise PhotoError("this is not a photo in JPEG, PNG, WEBP, TIFF or BMP format", code="not-a-photo", path=path)


def _has_more_frames(image: Any) -> bool:
    if image.format == "JPEG":  # the count of the index that phones write; no more of it is read
        return exif.number(image.info.get("mp", b""), 0xB001) > 1
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1)) > 1
    with _quiet():
        try:  # counting a TIFF's pages means reading all their headers: look for the second only
            image.seek(1)
        except (EOFError, OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
            return False
        finally:
            image.seek(0)
    return True


def _bits(image: Any, stream: IO[bytes], format_: str) -> int:
    """Bits per channel in the file."""
    if format_ == "PNG":
        place = stream.tell()
        stream.seek(24)
        depth = stream.read(1)[0]
        stream.seek(place)
        return int(depth)
    if format_ == "TIFF":
        return int(max(image.tag_v2.get(258, (1,))))
    return 8


def _encoding(image: Any, stream: IO[bytes], format_: str) -> Encoding:
    dpi = _dpi(image.info.get("dpi"))
    if format_ == "JPEG":
        used = [layer[3] for layer in image.layer[:2]]  # (id, samples across, samples down, table) of each component
        tables = tuple(tuple(image.quantization[i]) for i in used if i in image.quantization)
        iptc = image.info.get("photoshop", {}).get(0x0404, b"")
        progressive = "progressive" in image.info
        return Encoding(tables, _subsampling(image.layer), progressive, dpi=dpi, iptc=iptc if isinstance(iptc, bytes) else b"")
    if format_ == "WEBP":
        lossless, quality = webp.quality(stream)
        return Encoding(lossless=lossless, quality=quality)
    if format_ == "TIFF":
        return Encoding(compression=str(image.info.get("compression", "")), dpi=dpi)
    return Encoding(dpi=dpi)


def _subsampling(layers: list[tuple[int, int, int, int]]) -> int:
    """Pillow's number for the chroma subsampling; the next finer one it can write where it cannot write the very same."""
    if len(layers) != 3:
        return 0
    across, down = layers[0][1] / max(1, layers[1][1]), layers[0][2] / max(1, layers[1][2])
    return 0 if across < 2 else 1 if down < 2 else 2


def _dpi(found: Any) -> tuple[float, float] | None:
    try:
        x, y = float(found[0]), float(found[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if 2 <= x <= 30_000 and 2 <= y <= 30_000 else None


def _xmp(image: Any) -> bytes:
    xmp = image.info.get("xmp", b"")
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp) if isinstance(xmp, (bytes, bytearray)) else b""


def _late_png_xmp(stream: IO[bytes]) -> bytes:
    """XMP that stands behind the pixels of a PNG, where other programs may have put it; uncompressed only."""
    stream.seek(8)
    for _ in range(100_000):
        header = stream.read(8)
        if len(header) < 8:
            break
        length = int.from_bytes(header[:4], "big")
        if header[4:] == b"iTXt" and length < 4 << 20:
            keyword, _, rest = stream.read(length).partition(b"\0")
            stream.seek(4, os.SEEK_CUR)
            if keyword == b"XML:com.adobe.xmp" and rest[:1] == b"\0":
                return rest[2:].split(b"\0", 2)[-1]
        else:
            stream.seek(length + 4, os.SEEK_CUR)
    return b""


def _rgb(image: Any, depth: int, notes: list[str]) -> tuple[Any, bytes | None]:
    """The picture in mode RGB or RGBA, and the RGB profile its colours are in (None: sRGB)."""
    icc = image.info.get("icc_profile") or None
    space = _colour_space(icc)
    if depth > 8:
        notes.append(f"{depth} bits per channel were reduced to 8")
    if image.mode.startswith("I;16"):
        values = np.asarray(image) >> (depth - 8 if 8 < depth <= 16 else 8)
        if image.format == "TIFF" and image.tag_v2.get(262) == 0:  # white is zero, which Pillow undoes for 8 bits only
            values = 255 - values
        image = Image.fromarray(values.astype(np.uint8))
    if image.mode in ("1", "L", "LA", "La") and space == "GRAY":
        alpha = image.convert("LA").getchannel("A") if image.mode != "L" else None
        grey = image.convert("LA").getchannel("L") if alpha is not None else image
        converted = _to_srgb(grey, icc, "RGB")
        if converted is None:
            notes.append("the grey profile could not be applied and was dropped")
            return image.convert("LA").convert("RGBA") if alpha is not None else image.convert("RGB"), None
        if alpha is not None and image.mode != "1":
            converted.putalpha(alpha)
        return converted, None
    if image.mode == "CMYK":
        converted = _to_srgb(image, icc, "RGB") if space == "CMYK" else None
        notes.append("CMYK was converted to sRGB" + ("" if converted else " without a profile: colours are approximate"))
        return converted or image.convert("RGB"), None
    if icc is not None and space != "RGB":
        notes.append("the colour profile does not fit the picture and was dropped")
        icc = None
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info:
        try:
            image = image.convert("RGBA")
        except (ValueError, TypeError, IndexError):
            notes.append("the transparent colour could not be read and was dropped")
            image.info.pop("transparency")
            image = image.convert("RGB")
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    return image, icc


def _colour_space(icc: bytes | None) -> str:
    if not icc:
        return ""
    try:
        return str(ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space).strip()
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return ""


def _to_srgb(image: Any, icc: bytes | None, mode: str) -> Any:
    """The picture in sRGB through its profile, or None where the profile does not work."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc or b""))
        return ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode=mode,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns about damaged metadata; we say it in our own way. Filters are global, hence the lock."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _mute() -> Iterator[None]:
    """libtiff prints what it finds wrong with a file to the standard error stream, past Python; we say it in our own way."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError):  # the stream is closed anyway
        yield
        return
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _trouble(path: str | os.PathLike[str] | None, what: str, code: str) -> Iterator[None]:
    """Turns whatever Pillow raises on bad bytes into a PhotoError."""
    try:
        yield
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError("the picture needs more memory than there is", code="too-large", path=path) from error
    except Exception as error:
        raise PhotoError(what, code=code, path=path) from error
