"""From pixels to the bytes of a file, as much like the file they came from as the format allows."""

from __future__ import annotations

import os
import struct
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from visagist.errors import OutputError
from visagist.photo.decoding import Encoding, raw_text

# What a name may end in, and what is then written. BMP holds no metadata, hence no mark, and is not written.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "PNG": 2**31 - 1, "TIFF": 2**31 - 1}
LARGEST_XMP = {"JPEG": 65_502, "WEBP": 1 << 20, "PNG": 1 << 20, "TIFF": 1 << 20}

_JPEG_QUALITY = 95  # where the photo was no JPEG before
_WEBP_QUALITY = 92.0  # where the photo was no WEBP before, or its quantizer could not be read
_TIFF_LOSSLESS = {"packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd", "lzma"}
_XMP_TAG, _PREDICTOR_TAG = 700, 317
_DIRECTORIES = (0x8769, 0x8825)  # EXIF and GPS


def encode(
    stream: IO[bytes],
    format_: str,
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    icc: bytes | None,
    *,
    came: str,
    encoding: Encoding,
    xmp: bytes,
) -> tuple[str, ...]:
    """Write the picture into an empty binary stream (a file for TIFF); returns notes on what the format cannot hold.

    pixels uint8 [H, W, 3]; alpha uint8 [H, W] or None; came: the format that `encoding` is of.
    Raises OSError as the stream does, and OutputError (unsupported) for a picture that is too large for the format.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > LARGEST_SIDE[format_]:
        what = f"{format_} holds at most {LARGEST_SIDE[format_]} pixels a side"
        raise OutputError(what, code="unsupported", hint="write PNG instead")
    image = Image.fromarray(pixels)
    notes: tuple[str, ...] = ()
    if alpha is not None:
        mask = Image.fromarray(alpha)
        if format_ == "JPEG":
            ground = Image.new("RGB", image.size, "white")
            ground.paste(image, mask=mask)
            image = ground
            if int(alpha.min()) < 255:
                notes = ("JPEG holds no transparency: the photo was laid on white",)
        else:
            image.putalpha(mask)
    more: dict[str, Any] = {"icc_profile": icc or b""}
    if encoding.dpi is not None and format_ != "WEBP":
        more["dpi"] = encoding.dpi
    if format_ == "JPEG":
        _jpeg(stream, image, came, encoding, {**more, "exif": encoding.exif, "xmp": xmp})
    elif format_ == "PNG":
        info = PngInfo()
        if xmp:
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        # Level 4 is a quarter faster than the usual 6 and gives the same size on photographs.
        image.save(stream, "PNG", pnginfo=info, exif=encoding.exif, compress_level=4, **more)
    elif format_ == "WEBP":
        lossless = encoding.lossless if came == "WEBP" else came != "JPEG"
        quality = encoding.quality if encoding.quality >= 0 else _WEBP_QUALITY
        options: dict[str, Any] = {"lossless": True, "exact": True, "method": 2} if lossless else {"quality": quality}
        image.save(stream, "WEBP", exif=encoding.exif, xmp=xmp, **options, **more)
    else:
        _tiff(stream, image, encoding, xmp, more)
    return notes


def _jpeg(stream: IO[bytes], image: Image.Image, came: str, encoding: Encoding, more: dict[str, Any]) -> None:
    if came == "JPEG" and encoding.tables:
        more.update(qtables=[list(table) for table in encoding.tables], subsampling=encoding.subsampling)
    else:
        more.update(quality=_JPEG_QUALITY, subsampling=0)
    if encoding.progressive:
        try:
            image.save(stream, "JPEG", progressive=True, **more)
            return
        except OSError:  # Pillow reserves two bytes a pixel for a progressive picture; noise may need more
            stream.seek(0)
            stream.truncate()
    image.save(stream, "JPEG", **more)


def _tiff(stream: IO[bytes], image: Image.Image, encoding: Encoding, xmp: bytes, more: dict[str, Any]) -> None:
    tags, directories = Image.Exif(), {}
    if encoding.exif:
        tags.load(encoding.exif)
        directories = {tag: {k: raw_text(v) for k, v in tags.get_ifd(tag).items()} for tag in _DIRECTORIES if tag in tags}
        for tag, value in list(tags.items()):
            if tag in directories:
                del tags[tag]
            else:
                tags[tag] = raw_text(value)
    if xmp:
        tags[_XMP_TAG] = xmp
    compression = encoding.compression
    if compression not in _TIFF_LOSSLESS:  # JPEG in TIFF would lose twice
        compression = "raw" if compression in ("", "raw") else "tiff_adobe_deflate"
    if compression in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd"):
        tags[_PREDICTOR_TAG] = 2
    image.save(stream, "TIFF", compression=compression, exif=tags, **more)
    if directories:
        _append_directories(stream, directories)


def _append_directories(stream: IO[bytes], directories: dict[int, dict[int, Any]]) -> None:
    """Give a TIFF file sub-directories (EXIF, GPS), which libtiff does not write for Pillow.

    They go to the end of the file, behind them a copy of the main directory that points to them, and the header to that.
    """
    stream.seek(0)
    head = stream.read(8)
    order = "<" if head[:2] == b"II" else ">"
    (main,) = struct.unpack(order + "I", head[4:])
    stream.seek(main)
    (count,) = struct.unpack(order + "H", stream.read(2))
    entries = [stream.read(12) for _ in range(count)]
    following = stream.read(4)
    for tag, directory in directories.items():
        place = stream.seek(0, os.SEEK_END)
        place += place & 1
        stream.seek(place)
        written = ImageFileDirectory_v2(ifh=head[:4] + struct.pack(order + "I", 8), group=tag)
        for key, value in directory.items():
            written[key] = value
        stream.write(written.tobytes(place))
        entries.append(struct.pack(order + "HHII", tag, 4, 1, place))
    place = stream.seek(0, os.SEEK_END)
    place += place & 1
    stream.seek(place)
    entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
    stream.write(struct.pack(order + "H", len(entries)) + b"".join(entries) + following)
    stream.seek(4)
    stream.write(struct.pack(order + "I", place))
