"""Reading photos: every format, mode and orientation, colour profiles, and files that are not what they seem."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from visagist.errors import PhotoError
from visagist.photo.decoding import upright_size
from visagist.photo.photo import Photo

FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP"]


def gradient(height: int = 48, width: int = 64) -> np.ndarray:
    """A picture without symmetry: uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 256], -1).astype(np.uint8)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2, rows: bytes | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows or b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def code_of(data: bytes, **options: Any) -> str:
    with pytest.raises(PhotoError) as caught:
        Photo.decode(data, path="some.jpg", **options)
    assert caught.value.path == "some.jpg"
    assert "\n" not in caught.value.line()
    return caught.value.code


@pytest.mark.parametrize("format_", FORMATS)
def test_formats_by_content(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.name"
    path.write_bytes(encoded(Image.fromarray(gradient()), format_, **({"lossless": True} if format_ == "WEBP" else {})))
    photo = Photo.open(path)
    assert photo.format == format_
    assert photo.size == (48, 64)
    assert photo.alpha is None
    assert photo.history == photo.notes == ()
    error = np.abs(photo.pixels.astype(int) - gradient()).mean()
    assert error == 0 if format_ != "JPEG" else error < 6


def test_pixels_cannot_be_changed() -> None:
    array = gradient()
    photo = Photo.of(array)
    array[:] = 0
    assert (photo.pixels == gradient()).all()
    with pytest.raises(ValueError, match="read-only"):
        photo.pixels[0, 0] = 1
    decoded = Photo.decode(encoded(Image.fromarray(gradient()).convert("RGBA"), "PNG"))
    assert decoded.alpha is not None
    assert not decoded.pixels.flags.writeable
    assert not decoded.alpha.flags.writeable


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 4), np.uint8)],
)
def test_of_refuses_other_arrays(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a photo is uint8"):
        Photo.of(bad)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation: int, format_: str) -> None:
    upright = gradient()
    # What the eight EXIF values say of the stored rows and columns: EXIF 2.32, table on tag 274.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    options: dict[str, Any] = (
        {"lossless": True} if format_ == "WEBP" else {"quality": 100, "subsampling": 0} if format_ == "JPEG" else {}
    )
    photo = Photo.decode(encoded(Image.fromarray(np.ascontiguousarray(stored)), format_, exif=exif, **options))
    assert photo.size == (48, 64)
    assert np.abs(photo.pixels.astype(int) - upright).max() <= (8 if format_ == "JPEG" else 0)
    kept = Image.Exif()
    kept.load(photo.encoding.exif)
    assert dict(kept) == {0x010F: "Maker"}


def test_modes() -> None:
    rgb = Image.fromarray(gradient())
    grey = np.asarray(rgb.convert("L"))
    for mode, formats in {"1": ["PNG", "TIFF", "BMP"], "L": FORMATS, "P": ["PNG", "TIFF", "BMP"]}.items():
        for format_ in formats:
            image = rgb.convert(mode)
            photo = Photo.decode(encoded(image, format_, **({"lossless": True} if format_ == "WEBP" else {})))
            wanted = np.asarray(image.convert("RGB"))
            assert np.abs(photo.pixels.astype(int) - wanted).mean() < 2, (mode, format_)
            assert photo.alpha is None
            assert photo.notes == ()
    alpha = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1)))
    for mode, formats in {"LA": ["PNG", "TIFF"], "RGBA": ["PNG", "TIFF", "WEBP"]}.items():
        for format_ in formats:
            image = rgb.convert(mode)
            image.putalpha(alpha)
            photo = Photo.decode(encoded(image, format_, **({"lossless": True, "exact": True} if format_ == "WEBP" else {})))
            assert photo.alpha is not None
            assert (photo.alpha == np.asarray(alpha)).all(), (mode, format_)
            assert (photo.pixels == (grey[..., None] if mode == "LA" else gradient())).all(), (mode, format_)


def test_transparent_colours() -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    palette.putdata([0, 1, 2, 3])
    photo = Photo.decode(encoded(palette, "PNG", transparency=bytes([0, 128, 255, 255])))
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [[0, 128, 255, 255]]
    assert photo.pixels[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]
    one = Photo.decode(encoded(palette, "PNG", transparency=1))
    assert one.alpha is not None
    assert one.alpha.tolist() == [[255, 0, 255, 255]]
    for image, colour in ((Image.new("L", (2, 1), 7), 7), (Image.new("RGB", (2, 1), (1, 2, 3)), (1, 2, 3))):
        photo = Photo.decode(encoded(image, "PNG", transparency=colour))
        assert photo.alpha is not None
        assert photo.alpha.tolist() == [[0, 0]]
    # 16-bit transparent colours cannot be matched after reduction: whatever comes out, it is a photo.
    raw = png(1, 1, (b"tRNS", struct.pack(">HHH", 65535, 2, 3)), depth=16, rows=b"\0" + struct.pack(">HHH", 65535, 2, 3))
    assert Photo.decode(raw).size == (1, 1)


def test_sixteen_bits() -> None:
    deep = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in deep)
    rgb = png(64, 48, depth=16, rows=rows)
    files = {
        "grey PNG": encoded(Image.fromarray(deep), "PNG"),
        "grey TIFF": encoded(Image.fromarray(deep), "TIFF"),
        "big-endian TIFF": encoded(Image.frombytes("I;16B", (64, 48), deep.astype(">u2").tobytes()), "TIFF"),
        "RGB PNG": rgb,
    }
    for name, data in files.items():
        photo = Photo.decode(data)
        assert photo.notes == ("16 bits per channel were reduced to 8",), name
        assert (photo.pixels[..., 1] == deep >> 8).all(), name


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_float_and_32_bit_are_refused(kind: type) -> None:
    assert code_of(encoded(Image.fromarray(np.ones((4, 4), kind)), "TIFF")) == "unsupported"


def test_cmyk_without_profile_says_so() -> None:
    image = Image.fromarray(gradient()).convert("CMYK")
    for format_ in ("JPEG", "TIFF"):
        photo = Photo.decode(encoded(image, format_))
        assert "CMYK was converted to sRGB without a profile" in photo.notes[0]
        assert photo.icc is None
        assert np.abs(photo.pixels.astype(int) - gradient()).mean() < 6


def profile(kind: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


def grey_profile(gamma: float = 1.0) -> bytes:
    """A minimal ICC v2 profile of grey with a power curve."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + b"\0" * 78 + b"\0"
    tags, body, offset = [], b"", 128 + 4 + 12 * 3
    for name, data in ((b"desc", text), (b"wtpt", white), (b"kTRC", curve)):
        data += b"\0" * (-len(data) % 4)
        tags.append(name + struct.pack(">II", offset + len(body), len(data)))
        body += data
    header = bytearray(128)
    header[0:4] = struct.pack(">I", offset + len(body))
    header[8:12] = b"\x02\x20\0\0"
    header[12:24] = b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">iii", 63190, 65536, 54061)
    return bytes(header) + struct.pack(">I", 3) + b"".join(tags) + body


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_rgb_profile_is_kept(format_: str) -> None:
    icc = profile("sRGB")
    photo = Photo.decode(encoded(Image.fromarray(gradient()), format_, icc_profile=icc))
    assert photo.icc == icc
    assert photo.notes == ()


def test_grey_profile_is_applied() -> None:
    grey = Image.fromarray(np.full((4, 4), 55, np.uint8))
    photo = Photo.decode(encoded(grey, "PNG", icc_profile=grey_profile(1.0)))
    assert photo.icc is None
    assert photo.notes == ()
    assert abs(int(photo.pixels[0, 0, 0]) - 128) <= 3  # linear 55/255 is sRGB 128
    both = Image.merge("LA", (grey, Image.new("L", (4, 4), 9)))
    photo = Photo.decode(encoded(both, "PNG", icc_profile=grey_profile(1.0)))
    assert abs(int(photo.pixels[0, 0, 0]) - 128) <= 3
    assert photo.alpha is not None
    assert (photo.alpha == 9).all()


@pytest.mark.parametrize("icc", [b"rubbish", profile("LAB"), grey_profile()[:150]])
def test_profile_that_does_not_fit_is_dropped(icc: bytes) -> None:
    photo = Photo.decode(encoded(Image.fromarray(gradient()), "JPEG", icc_profile=icc))
    assert photo.icc is None
    assert photo.notes == ("the colour profile does not fit the picture and was dropped",)


def test_several_frames() -> None:
    frames = [Image.fromarray(gradient()), Image.new("RGB", (64, 48), "red")]
    for format_, options in {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "MPO": {"quality": 95, "subsampling": 0}}.items():
        photo = Photo.decode(encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options))
        assert photo.notes == ("the file holds several pictures: the first is used",), format_
        assert np.abs(photo.pixels.astype(int) - gradient()).mean() < 3, format_
        assert photo.format == ("JPEG" if format_ == "MPO" else format_)


@pytest.mark.parametrize("shape", [(1, 1), (4000, 1), (1, 4000)])
@pytest.mark.parametrize("format_", FORMATS)
def test_extreme_shapes(shape: tuple[int, int], format_: str) -> None:
    assert Photo.decode(encoded(Image.new("RGB", shape[::-1], "teal"), format_)).size == shape


# --- files that are not what they seem -------------------------------------------------------------------------------------


def test_no_photo_at_all(tmp_path: Path) -> None:
    for name, data, code in (
        ("empty.jpg", b"", "empty"),
        ("text.jpg", "这不是照片\n".encode() * 100, "not-a-photo"),
        ("short.png", b"\x89P", "not-a-photo"),
        ("vector.jpg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported"),
        ("print.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
        ("dance.jpg", encoded(Image.new("P", (2, 2)), "GIF"), "unsupported"),
        ("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported"),
        (
            "bmw.txt",
            b"BMW is a maker of cars and of motorcycles, and this is not a bitmap at all, whatever its first letters",
            "not-a-photo",
        ),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(PhotoError) as caught:
            Photo.open(path)
        assert caught.value.code == code, name
        assert caught.value.path == str(path)


def test_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "none.jpg", tmp_path, tmp_path / "pipe.jpg", Path("/dev/zero"), tmp_path / "none.jpg" / "deeper.jpg"):
        with pytest.raises(PhotoError) as caught:
            Photo.open(path)
        assert caught.value.code == "missing"
    with pytest.raises(PhotoError):
        Photo.open("null\0byte.jpg")


@pytest.mark.parametrize("name", ["中文 照片.jpg", "😀.png", "two\nlines.jpg", "-rf.jpg", " .jpg", "a" * 200 + ".jpg"])
def test_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Photo.of(gradient()).save(name)
    assert Photo.open(name).size == (48, 64)
    Path(name).write_bytes(b"")
    with pytest.raises(PhotoError) as caught:
        Photo.open(name)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.98])
def test_truncated(format_: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format_)
    assert code_of(data[: int(len(data) * part)]) in ("truncated", "not-a-photo")


def test_truncated_is_named_so() -> None:
    data = encoded(Image.fromarray(gradient(300, 400)), "JPEG")
    assert code_of(data[: len(data) // 2]) == "truncated"


def test_pixel_limit_comes_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = png(20_000, 20_000, rows=b"\0" * 1000)  # 400 megapixels in 100 bytes
    assert code_of(bomb) == "too-large"
    huge = encoded(Image.new("1", (4000, 4000)), "TIFF", compression="group4")
    assert code_of(huge, max_pixels=4000 * 4000 - 1) == "too-large"
    assert Photo.decode(huge, max_pixels=4000 * 4000).size == (4000, 4000)
    for data in (
        b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0" + b"\0" * 40,
        b"RIFF\x30\0\0\0WEBPVP8L\x20\0\0\0\x2f\xfe\xff\xff\x0f" + b"\0" * 40,
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
        + b"\0" * 60,
    ):
        assert code_of(data) == "too-large"


def test_own_limit_may_exceed_pillows() -> None:
    """Pillow warns from 89 megapixels on and refuses from 179 on; here only our own limit counts."""
    data = png(14_000, 14_000, depth=1, colour=0, rows=b"\0" * 10)
    assert code_of(data, max_pixels=200_000_000) == "truncated"


def test_tiff_with_vast_tiles() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {256: 8, 257: 8, 258: (8, 8, 8), 259: 5, 262: 2, 277: 3, 322: 65520, 323: 65520, 324: 8, 325: 100}.items():
        tags[tag] = value
    stream = io.BytesIO()
    stream.write(b"II*\0\x08\0\0\0")
    stream.seek(8)
    stream.write(tags.tobytes(8))
    stream.write(b"\0" * 200)
    assert code_of(stream.getvalue()) == "too-large"


def exif_block(entries: list[tuple[int, int, int, bytes]], next_: int = 0) -> bytes:
    body = (
        struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI", *e[:3]) + e[3] for e in entries) + struct.pack("<I", next_)
    )
    return b"Exif\0\0II*\0\x08\0\0\0" + body


@pytest.mark.parametrize(
    "exif",
    [
        exif_block([(0x0112, 3, 1, b"\x06\0\0\0")], next_=8),  # the next directory is this one
        exif_block([(0x0112, 3, 1, b"\x06\0\0\0"), (0x8769, 4, 1, b"\x08\0\0\0")]),  # the sub-directory is this one
        exif_block([(0x0112, 3, 1, b"\x06\0\0\0"), (0x8825, 4, 1, b"\xff\xff\xff\x7f")]),  # the sub-directory is nowhere
        exif_block([(0x010F, 2, 0x7FFFFFFF, b"\x08\0\0\0"), (0x0112, 3, 1, b"\x06\0\0\0")]),  # two gigabytes of text
    ],
    ids=["next", "sub-directory", "nowhere", "too-long"],
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_exif_loops(exif: bytes, format_: str) -> None:
    data = encoded(Image.fromarray(gradient()), format_, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photo = Photo.decode(data)
    assert photo.size == (64, 48)  # turned, damaged or not


@pytest.mark.parametrize(
    "exif",
    [b"rubbish", b"II*\0\xff\xff\xff\xff", b"", b"MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 90],
    ids=["text", "far", "nothing", "ones"],
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_exif_rubbish(exif: bytes, format_: str) -> None:
    photo = Photo.decode(encoded(Image.fromarray(gradient()), format_, exif=b"Exif\0\0" + exif))
    assert photo.size == (48, 64)
    assert photo.encoding.exif == b""


def test_exif_orientation_of_no_meaning() -> None:
    for entry in (
        (0x0112, 3, 1, b"\0\0\0\0"),
        (0x0112, 3, 1, b"\x09\0\0\0"),
        (0x0112, 3, 1, b"\xff\xff\0\0"),
        (0x0112, 2, 4, b"six\0"),
    ):
        assert Photo.decode(encoded(Image.fromarray(gradient()), "JPEG", exif=exif_block([entry]))).size == (48, 64)


def test_exif_with_a_resolution_of_nothing() -> None:
    """Pillow itself stumbles over such a JPEG while it reads the header."""
    exif = exif_block([(0x0112, 3, 1, b"\x06\0\0\0"), (0x011A, 5, 0, b"\0\0\0\0"), (0x0128, 3, 1, b"\2\0\0\0")])
    assert Photo.decode(encoded(Image.fromarray(gradient()), "JPEG", exif=exif)).size == (64, 48)


def test_text_bomb_in_png() -> None:
    bomb = zlib.compress(b"a" * 80_000_000)
    data = png(1, 1, (b"zTXt", b"Comment\0\0" + bomb), rows=b"\0\1\2\3")
    try:
        assert Photo.decode(data).size == (1, 1)
    except PhotoError as error:
        assert error.code == "truncated"


def test_png_metadata_behind_the_pixels() -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<x/>", zip=True)
    assert Photo.decode(encoded(Image.fromarray(gradient()), "PNG", pnginfo=info)).encoding.xmp == b"<x/>"


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_size_is_told_upright_without_the_pixels(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(gradient()), format_, **({} if format_ == "BMP" else {"exif": exif}))
    assert upright_size(io.BytesIO(data)) == Photo.decode(data).size
    with pytest.raises(PhotoError):
        upright_size(io.BytesIO(data[:20]))
