"""Damaged files by the thousand: whatever the bytes, a photo or a PhotoError comes out, and nothing else."""

from __future__ import annotations

import io
import os
import struct
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from visagist.errors import PhotoError
from visagist.photo import mark
from visagist.photo.exif import _KEPT as exif_tags
from visagist.photo.photo import Photo, is_marked

ROUNDS = int(os.environ.get("VISAGIST_FUZZ", "60"))  # raise it to search for longer


def specimens() -> dict[str, bytes]:
    """Small files of every kind, with all the metadata there are."""
    rng = np.random.default_rng(0)
    pixels = np.clip(np.add.outer(np.arange(20), np.arange(28))[..., None] * 4 + rng.integers(0, 20, (20, 28, 3)), 0, 255)
    rgb = Image.fromarray(pixels.astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0x9003: "2026:01:02 03:04:05"})
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = mark.write([mark.Step("makeup", "lipstick", "0123456789ab", {"finish": "glossy"})])[0]
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    info.add_text("Comment", "text " * 20, zip=True)
    more: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": icc}

    def file(image: Image.Image, format_: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, format_, **options)
        return stream.getvalue()

    return {
        "jpeg": file(rgb, "JPEG", xmp=xmp, **more),
        "progressive": file(rgb, "JPEG", progressive=True, exif=exif.tobytes()),
        "mpo": file(rgb, "MPO", save_all=True, append_images=[rgb]),
        "cmyk": file(rgb.convert("CMYK"), "JPEG"),
        "png": file(rgba, "PNG", pnginfo=info, **more),
        "palette": file(rgb.convert("P"), "PNG", transparency=3),
        "apng": file(rgb, "PNG", save_all=True, append_images=[rgba.convert("RGB").rotate(90)]),
        "sixteen": file(Image.fromarray(pixels[..., 0].astype(np.uint16) * 256), "PNG"),
        "webp": file(rgba, "WEBP", xmp=xmp, **more),
        "plain webp": file(rgb, "WEBP"),
        "lossless": file(rgb, "WEBP", lossless=True),
        "animated": file(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "tiff": file(rgb, "TIFF", tiffinfo={700: xmp}, icc_profile=icc),
        "exif tiff": file(rgb, "TIFF", exif=exif.tobytes()),
        "lzw": file(rgba, "TIFF", compression="tiff_lzw"),
        "deflate": file(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg tiff": file(rgb, "TIFF", compression="jpeg"),
        "pages": file(rgb, "TIFF", save_all=True, append_images=[rgb]),
        "bmp": file(rgb, "BMP"),
        "palette bmp": file(rgb.convert("P"), "BMP"),
    }


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bits flipped, bytes set to telling values, or a piece cut out, doubled or lost at the end."""
    out = bytearray(data)
    # Half of the damage goes to the first bytes, where the structure is.
    reach = min(len(out), 400) if rng.random() < 0.5 else len(out)
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(0, reach))
        kind = rng.integers(0, 4)
        if kind == 0:
            out[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            out[place] = int(rng.choice([0, 1, 127, 128, 254, 255]))
        elif kind == 2:
            out[place : place + 4] = int(rng.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1])).to_bytes(4, "big")
        elif rng.random() < 0.3:
            end = place + int(rng.integers(1, 40))
            out[place:end] = out[place:end] * int(rng.choice([0, 2]))
            reach = min(reach, len(out))
    return bytes(out)


@pytest.mark.parametrize("name", specimens())
def test_damaged_files(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = specimens()[name]
    Photo.decode(whole)
    codes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for round_ in range(ROUNDS):
            rng = np.random.default_rng([round_, len(name), *name.encode()])
            data = damaged(whole, rng)
            try:
                photo = Photo.decode(data, max_pixels=10**6)
            except PhotoError as error:
                codes.add(error.code)
            else:
                assert photo.pixels.shape[2] == 3
                assert photo.size[0] * photo.size[1] <= 10**6
    assert codes <= {"empty", "not-a-photo", "truncated", "too-large", "unsupported"}
    assert capfd.readouterr() == ("", "")  # nor does anything chatter from below


def random_exif(rng: np.random.Generator) -> bytes:
    """A directory of tags that are kept, with types and counts of all kinds."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
    tags = sorted(rng.choice(sorted(exif_tags), 6, replace=False).tolist())
    entries, data = b"", b""
    for tag in tags:
        kind, count = int(rng.choice(list(sizes))), int(rng.choice([0, 1, 2, 3, 5, 70]))
        length = count * sizes[kind]
        value = rng.choice([rng.bytes(length), b"\0" * length, b"\xff" * length, b"A" * length]) if length else b""
        value = bytes(value).ljust(length, b"\0")
        place = 8 + 2 + 12 * len(tags) + 4 + len(data)
        entries += struct.pack("<HHI", tag, kind, count) + (value.ljust(4, b"\0") if length <= 4 else struct.pack("<I", place))
        data += value if length > 4 else b""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + data


@pytest.mark.parametrize("compression", ["", "tiff_lzw"])
def test_exif_of_any_type_can_be_written(compression: str, tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff, trusting such counts, would crash."""
    for round_ in range(ROUNDS):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=random_exif(np.random.default_rng(round_)))
        photo = Photo.decode(stream.getvalue())
        as_tiff = replace(photo, format="TIFF", encoding=replace(photo.encoding, compression=compression))
        as_tiff.save(tmp_path / "a.tif", overwrite=True)
        photo.save(tmp_path / "a.jpg", overwrite=True)
        assert Photo.open(tmp_path / "a.tif").size == Photo.open(tmp_path / "a.jpg").size == (8, 8)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "exif tiff", "lzw"])
def test_what_survives_can_be_written(name: str, tmp_path: Any) -> None:
    """Metadata from a damaged file must not spoil the writing of the next."""
    whole, path = specimens()[name], tmp_path / "a"
    for round_ in range(ROUNDS // 2):
        data = damaged(whole, np.random.default_rng([7, round_, *name.encode()]))
        path.write_bytes(data)
        is_marked(path)
        try:
            photo = Photo.decode(data, max_pixels=10**5)
        except PhotoError:
            continue
        for ending in (".jpg", ".png", ".webp", ".tif"):
            done = photo.edited(255 - photo.pixels, mark.Step("makeup"))
            done.save(tmp_path / f"b{ending}", overwrite=True)
            assert Photo.open(tmp_path / f"b{ending}").history[-1:] == (mark.Step("makeup"),)
        packed = replace(done, encoding=replace(done.encoding, compression="tiff_lzw"))  # through libtiff
        packed.save(tmp_path / "b.tif", overwrite=True)
        assert (Photo.open(tmp_path / "b.tif").pixels == done.pixels).all()
