"""Writing photos: alike what they came from, with nothing lost in silence."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from visagist.photo import encoding
from visagist.photo.photo import Photo, Step

STEP = Step("makeup", "lipstick", "0123456789ab", {"finish": "glossy"})


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def portrait() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut()[:192, 128:320])


def again(photo: Photo, path: Path) -> Photo:
    """The photo written and read."""
    photo.save(path, overwrite=True)
    return Photo.open(path)


# --- quality follows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [35, 75, 92, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_its_quantization(quality: int, subsampling: int, progressive: bool, tmp_path: Path) -> None:
    data = encoded(portrait(), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    photo = Photo.decode(data)
    copy = again(photo.edited(photo.pixels, STEP), tmp_path / "copy.jpg")
    assert copy.encoding.tables == photo.encoding.tables
    assert copy.encoding.subsampling == subsampling
    assert copy.encoding.progressive == progressive
    assert abs((tmp_path / "copy.jpg").stat().st_size - len(data)) < 0.1 * len(data) + 2000
    with Image.open(io.BytesIO(data)) as before, Image.open(tmp_path / "copy.jpg") as after:
        assert before.quantization == after.quantization  # type: ignore[attr-defined]


def test_grey_and_cmyk_jpeg_get_their_luminance_table(tmp_path: Path) -> None:
    for mode in ("L", "CMYK"):
        photo = Photo.decode(encoded(portrait().convert(mode), "JPEG", quality=60))
        copy = again(photo, tmp_path / "copy.jpg")
        assert copy.encoding.tables[0] == photo.encoding.tables[0]
        assert copy.encoding.subsampling == 0


def test_progressive_noise_at_best_quality(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    photo = Photo.decode(encoded(noise, "JPEG", quality=100, subsampling=0))
    tables = tuple((1,) * 64 for _ in range(2))
    harsh = Photo(photo.pixels, format="JPEG", encoding=encoding.Encoding(tables=tables, subsampling=0, progressive=True))
    assert again(harsh, tmp_path / "noise.jpg").size == (200, 300)


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 98])
def test_webp_quality_is_estimated(quality: int, tmp_path: Path) -> None:
    data = encoded(portrait(), "WEBP", quality=quality)
    photo = Photo.decode(data)
    assert not photo.encoding.lossless
    assert abs(photo.encoding.quality - quality) <= 6
    copy = again(photo, tmp_path / "copy.webp")
    assert abs(copy.encoding.quality - quality) <= 8
    alpha = portrait()
    alpha.putalpha(128)
    assert abs(Photo.decode(encoded(alpha, "WEBP", quality=quality)).encoding.quality - quality) <= 6  # another container


def test_webp_lossless_stays_lossless(tmp_path: Path) -> None:
    photo = Photo.decode(encoded(portrait(), "WEBP", lossless=True))
    assert photo.encoding.lossless
    copy = again(photo, tmp_path / "copy.webp")
    assert copy.encoding.lossless
    assert (copy.pixels == photo.pixels).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "jpeg"])
@pytest.mark.parametrize("alpha", [False, True])
def test_tiff_keeps_its_compression(compression: str, alpha: bool, tmp_path: Path) -> None:
    image = portrait()
    if alpha and compression != "jpeg":
        image.putalpha(image.convert("L"))
    photo = Photo.decode(encoded(image, "TIFF", compression=compression, dpi=(300, 300)))
    copy = again(photo.edited(photo.pixels, STEP), tmp_path / "copy.tif")
    assert copy.encoding.compression == ("tiff_adobe_deflate" if compression == "jpeg" else compression)
    assert (copy.pixels == photo.pixels).all()
    assert copy.encoding.dpi == (300, 300)
    assert copy.history == (STEP,)


@pytest.mark.parametrize("came", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.webp", "a.tif", "a.tiff"])
def test_every_format_into_every_other(came: str, name: str, tmp_path: Path) -> None:
    photo = Photo.decode(encoded(portrait(), came))
    copy = again(photo.edited(photo.pixels, STEP), tmp_path / name)
    assert copy.format == encoding.FORMATS[Path(name).suffix.lower()]
    assert copy.history == (STEP,)
    lossy = copy.format == "JPEG" or (copy.format == "WEBP" and not copy.encoding.lossless)
    assert np.abs(copy.pixels.astype(int) - photo.pixels).mean() < (3 if lossy else 1e-9)


def test_extension() -> None:
    endings = {f: Photo.decode(encoded(portrait(), f)).extension for f in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")}
    assert endings == {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".png"}


# --- what came with the photo --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_alpha_is_kept(name: str, tmp_path: Path) -> None:
    image = portrait()
    image.putalpha(Image.fromarray(np.random.default_rng(0).integers(0, 256, image.size[::-1], dtype=np.uint8)))
    photo = Photo.decode(encoded(image, "PNG"))
    copy = again(photo, tmp_path / name)
    assert copy.alpha is not None
    assert photo.alpha is not None
    assert (copy.alpha == photo.alpha).all()
    assert (copy.pixels == photo.pixels).all()  # also where they do not show


def test_alpha_in_jpeg_is_laid_on_white(tmp_path: Path) -> None:
    image = portrait()
    image.putalpha(0)
    photo = Photo.decode(encoded(image, "PNG"))
    assert photo.save(tmp_path / "a.jpg") == ("JPEG holds no transparency: the photo was laid on white",)
    assert Photo.open(tmp_path / "a.jpg").pixels.min() >= 254
    image.putalpha(255)
    assert Photo.decode(encoded(image, "PNG")).save(tmp_path / "b.jpg") == ()


def test_alpha_follows_a_new_size() -> None:
    image = portrait()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    photo = Photo.decode(encoded(image, "PNG"))
    small = photo.edited(np.zeros((50, 40, 3), np.uint8), STEP)
    assert small.size == (50, 40)
    assert small.alpha is not None
    assert small.alpha[0, 0] < 10
    assert small.alpha[-1, -1] > 245


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_profile_is_written_back(name: str, tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert again(Photo.decode(encoded(portrait(), "JPEG", icc_profile=icc)), tmp_path / name).icc == icc
    assert again(Photo.decode(encoded(portrait(), "JPEG")), tmp_path / name).icc is None


def camera_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112], exif[0x8298] = "Maker", "Model 1", 6, "someone"
    exif[0x011A] = exif[0x011B] = IFDRational(300, 1)
    exif.get_ifd(0x8769).update({0x829A: IFDRational(1, 125), 0x8827: 200, 0x9003: "2026:01:02 03:04:05", 0x927C: b"secret" * 9})
    exif.get_ifd(0x8769).update({0xA002: 192, 0xA003: 192, 0xA434: "50mm"})
    exif.get_ifd(0x8825).update({1: "N", 2: (IFDRational(52), IFDRational(30), IFDRational(0))})
    exif[0x013B] = "张三 Ä".encode()
    return exif.tobytes()


@pytest.mark.parametrize("came", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_survives(came: str, name: str, tmp_path: Path) -> None:
    photo = Photo.decode(encoded(portrait().crop((0, 0, 192, 100)), came, exif=camera_exif()))
    assert photo.size == (192, 100)
    assert photo.notes == ()
    copy = again(photo.edited(photo.pixels, STEP), tmp_path / name)
    assert copy.size == (192, 100)  # upright, and not turned again
    assert copy.notes == ()
    with Image.open(tmp_path / name) as image:
        exif = image.getexif()
        assert (exif[0x010F], exif[0x0110]) == ("Maker", "Model 1")
        if came != "TIFF":  # Pillow itself loses the letters on writing the input
            assert exif[0x013B].encode("latin-1").decode() == "张三 Ä"
            assert "张三 Ä".encode() in (tmp_path / name).read_bytes()
        assert 0x0112 not in exif
        shot, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        assert shot[0x829A] == IFDRational(1, 125)
        assert shot[0x9003] == "2026:01:02 03:04:05"
        assert (shot[0xA002], shot[0xA003]) == (100, 192)
        assert 0x927C not in shot
        assert place[1] == "N"
        assert place[2] == (52, 30, 0)
        assert not exif.get_ifd(1)  # no thumbnail
    assert b"secret" not in (tmp_path / name).read_bytes()


def test_exif_survives_in_compressed_tiff(tmp_path: Path) -> None:
    photo = Photo.decode(encoded(portrait(), "JPEG", exif=camera_exif()))
    photo = replace(photo, format="TIFF", encoding=replace(photo.encoding, compression="tiff_lzw"))
    copy = again(photo.edited(photo.pixels, STEP), tmp_path / "a.tif")
    assert copy.encoding.compression == "tiff_lzw"
    assert copy.history == (STEP,)
    kept = Image.Exif()
    kept.load(copy.encoding.exif)
    assert kept[0x0110] == "Model 1"
    assert kept[0x013B].encode("latin-1").decode() == "张三 Ä"
    assert kept.get_ifd(0x8769)[0xA434] == "50mm"
    assert kept.get_ifd(0x8825)[2] == (52, 30, 0)
    assert (copy.pixels == photo.pixels).all()
    assert again(again(copy, tmp_path / "b.tif"), tmp_path / "c.tif").encoding.exif == Photo.open(tmp_path / "b.tif").encoding.exif


def test_thumbnail_is_not_kept(tmp_path: Path) -> None:
    """A thumbnail would go on showing the face as it was."""
    main = b"\x01\0" + b"\x0f\x01\x02\0\x04\0\0\0abc\0" + (26).to_bytes(4, "little")
    jpeg = b"\xff\xd8THUMBNAIL\xff\xd9"
    second = (
        b"\x02\0"
        + b"\x01\x02\x04\0\x01\0\0\0"
        + (56).to_bytes(4, "little")
        + b"\x02\x02\x04\0\x01\0\0\0"
        + b"\x0d\0\0\0"
        + b"\0\0\0\0"
    )
    exif = b"Exif\0\0II*\0\x08\0\0\0" + main + second + jpeg
    data = encoded(portrait(), "JPEG", exif=exif)
    assert b"THUMBNAIL" in data
    photo = Photo.decode(data)
    again(photo, tmp_path / "a.jpg")
    assert b"THUMBNAIL" not in (tmp_path / "a.jpg").read_bytes()
    assert b"abc" in (tmp_path / "a.jpg").read_bytes()


def test_iptc_is_kept_in_jpeg(tmp_path: Path) -> None:
    text = b"\x1c\x02\x74\x00\x09(c) Agent"
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x0c\0\0\0\0\0\4THMB" + b"8BIM\x04\x04\0\0" + len(text).to_bytes(4, "big") + text
    data = encoded(portrait(), "JPEG", extra=b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block)
    photo = Photo.decode(data)
    assert photo.encoding.iptc == text
    copy = again(photo.edited(photo.pixels, STEP), tmp_path / "a.jpg")
    assert copy.encoding.iptc == text
    assert copy.history == (STEP,)
    assert b"THMB" not in (tmp_path / "a.jpg").read_bytes()
    assert "IPTC" in photo.save(tmp_path / "a.png")[0]


def test_content_credentials_are_missed(tmp_path: Path) -> None:
    segment = b"JP\0\1\0\0\0\1jumb c2pa"
    data = encoded(portrait(), "JPEG", extra=b"\xff\xeb" + (len(segment) + 2).to_bytes(2, "big") + segment)
    assert Photo.decode(data).notes == ("the content credentials (C2PA) cannot be carried over to an edited copy",)
