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
from visagist.photo.decoding import Encoding
from visagist.photo.exif import GPS, SHOT, raw_text

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
    if encoding.iptc and format_ != "JPEG":
        notes = (*notes, "the photo's IPTC metadata were dropped: they are written into JPEG only")
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
    if 0 < len(encoding.iptc) < 60_000:  # the marker and resource that Photoshop made for it
        size, odd = len(encoding.iptc), len(encoding.iptc) & 1
        segment = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", size) + encoding.iptc + b"\0" * odd
        more["extra"] = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    if encoding.progressive:
        try:
            image.save(stream, "JPEG", progressive=True, **more)
            return
        except OSError:  # Pillow reserves two bytes a pixel for a progressive picture; noise may need more
            stream.seek(0)
            stream.truncate()
    image.save(stream, "JPEG", **more)


def _tiff(stream: IO[bytes], image: Image.Image, encoding: Encoding, xmp: bytes, more: dict[str, Any]) -> None:
    tags = Image.Exif()
    if xmp:
        tags[_XMP_TAG] = xmp
    compression = encoding.compression
    if compression not in _TIFF_LOSSLESS:  # JPEG in TIFF would lose twice
        compression = "raw" if compression in ("", "raw") else "tiff_adobe_deflate"
    if compression in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd"):
        tags[_PREDICTOR_TAG] = 2
    image.save(stream, "TIFF", compression=compression, exif=tags, **more)
    if encoding.exif:
        _append_exif(stream, encoding.exif)


def _append_exif(stream: IO[bytes], exif: bytes) -> None:
    """Give a TIFF file the tags of an EXIF block.

    Pillow would hand them to libtiff, which does not write the sub-directories (EXIF, GPS) and trusts types and counts that may
    come from a damaged file. So they go to the end of the file, behind them a copy of the main directory with entries for them,
    and the header points to that.
    """
    found = Image.Exif()
    found.load(exif)
    stream.seek(0)
    head = stream.read(8)
    order = "<" if head[:2] == b"II" else ">"
    (main,) = struct.unpack(order + "I", head[4:])
    stream.seek(main)
    (count,) = struct.unpack(order + "H", stream.read(2))
    entries = {entry[:2]: entry for entry in (stream.read(12) for _ in range(count))}
    following = stream.read(4)

    def directory(values: dict[int, Any], group: int | None = None) -> tuple[int, bytes]:
        """Writes a directory at the end of the file; returns where, and its bytes."""
        written = ImageFileDirectory_v2(ifh=head[:4] + struct.pack(order + "I", 8), group=group)
        for tag, value in values.items():
            written[tag] = raw_text(value)
        place = stream.seek(0, os.SEEK_END)
        place = stream.seek(place + (place & 1))
        data = written.tobytes(place)
        stream.write(data)
        return place, data

    plain = {tag: value for tag, value in found.items() if tag not in (SHOT, GPS) and struct.pack(order + "H", tag) not in entries}
    _, data = directory(plain)
    for i in range(struct.unpack(order + "H", data[:2])[0]):
        entry = data[2 + 12 * i : 14 + 12 * i]
        entries[entry[:2]] = entry
    for tag in (SHOT, GPS):
        if tag in found:
            place, _ = directory(found.get_ifd(tag), tag)
            entry = struct.pack(order + "HHII", tag, 4, 1, place)
            entries[entry[:2]] = entry
    place = stream.seek(0, os.SEEK_END)
    place = stream.seek(place + (place & 1))
    ordered = sorted(entries, key=lambda tag: struct.unpack(order + "H", tag))
    stream.write(struct.pack(order + "H", len(ordered)) + b"".join(entries[tag] for tag in ordered) + following)
    stream.seek(4)
    stream.write(struct.pack(order + "I", place))
