"""Writing photos: alike what they came from, complete or not at all, with nothing lost in silence."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from visagist.errors import OutputError
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


# --- complete or not at all --------------------------------------------------------------------------------------------------


def test_existing_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError) as caught:
        Photo.of(np.zeros((2, 2, 3), np.uint8)).save(path)
    assert (caught.value.code, caught.value.path) == ("exists", str(path))
    assert path.read_bytes() == b"precious"
    path.chmod(0o640)
    Photo.of(np.zeros((2, 2, 3), np.uint8)).save(path, overwrite=True)
    assert Photo.open(path).size == (2, 2)
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.png"]


def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "a.png", encoding.encode

    def slow(*args: Any, **more: Any) -> tuple[str, ...]:
        path.write_bytes(b"precious")
        return whole(*args, **more)

    monkeypatch.setattr(encoding, "encode", slow)
    with pytest.raises(OutputError) as caught:
        Photo.of(np.zeros((2, 2, 3), np.uint8)).save(path)
    assert caught.value.code == "exists"
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["a.png"]


def test_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError) as caught:
        Photo.of(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    assert caught.value.code == "exists"


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    Photo.of(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error")])
def test_full_disk_leaves_nothing(error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"before")
    with pytest.raises(OutputError) as caught:
        Photo.of(np.zeros((2, 2, 3), np.uint8)).save(path, overwrite=True)
    assert caught.value.code == "unwritable"
    assert str(error.strerror) in str(caught.value)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.jpg"]


def test_our_own_mistake_leaves_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(encoding, "encode", wrong)
    with pytest.raises(ZeroDivisionError):
        Photo.of(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert os.listdir(tmp_path) == []


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Photo.of(np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "none" / "a.png", tmp_path / "file" / "a.png", tmp_path / ("a" * 300 + ".png"), tmp_path / "a\0.png"):
        with pytest.raises(OutputError) as caught:
            photo.save(path)
        assert (caught.value.code, caught.value.path) == ("unwritable", str(path))
    with pytest.raises(OutputError) as caught:
        photo.save(tmp_path / "folder.png", overwrite=True)
    assert caught.value.code == "unwritable"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]

    def refused(*_: Any) -> int:  # chmod does not stop a superuser, who may run the tests
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OutputError) as caught:
        photo.save(tmp_path / "a.png")
    assert caught.value.code == "unwritable"
    assert "Permission denied" in caught.value.line()


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a", "a.svg", ".jpg"])
def test_names_that_say_no_format(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        Photo.of(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / name)
    assert caught.value.code == "unsupported"
    assert os.listdir(tmp_path) == []


def test_too_large_for_the_format(tmp_path: Path) -> None:
    photo = Photo.of(np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(OutputError) as caught:
        photo.save(tmp_path / "a.webp")
    assert caught.value.code == "unsupported"
    assert caught.value.path == str(tmp_path / "a.webp")
    assert os.listdir(tmp_path) == []
    photo.save(tmp_path / "a.jpg")


WRITER = """
import sys
import numpy as np
from visagist.photo import encoding
from visagist.photo.photo import Photo

def half(stream, *args, **more):
    stream.write(b"half a picture")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.read()

encoding.encode = half
Photo.of(np.zeros((2, 2, 3), np.uint8)).save(sys.argv[1], overwrite=True)
"""


@pytest.mark.parametrize("existing", [False, True])
def test_killed_while_writing(existing: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if existing:
        path.write_bytes(b"before")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        with pytest.raises(OutputError, match="another process"):  # while it lives nobody gets in between
            Photo.of(np.ones((3, 3, 3), np.uint8)).save(path, overwrite=True)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert path.exists() == existing
    if existing:
        assert path.read_bytes() == b"before"
    Photo.of(np.ones((3, 3, 3), np.uint8)).save(path, overwrite=True)
    assert Photo.open(path).size == (3, 3)
    assert os.listdir(tmp_path) == ["a.png"]  # what the dead process left was taken over


def test_interrupted_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Photo.of(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_memory_and_time_of_twelve_megapixels(tmp_path: Path) -> None:
    script = """
        import re, sys
        from pathlib import Path
        from visagist.photo.photo import Photo, Step
        def peak():
            return int(re.search("VmHWM:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())[1])
        before = peak()
        photo = Photo.open(sys.argv[1])
        photo.edited(photo.pixels.copy(), Step("makeup")).save(sys.argv[2])
        print((peak() - before) / 1024)
    """
    big = Image.fromarray(skimage.data.astronaut()).resize((4000, 3000))
    for ending in ("jpg", "png", "webp", "tif"):
        big.save(tmp_path / f"a.{ending}")
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / f"a.{ending}"), str(tmp_path / f"b.{ending}")],
            capture_output=True,
            text=True,
            check=True,
        )
        print(ending, round(float(done.stdout)), "MB", round(time.perf_counter() - start, 2), "s")
        assert float(done.stdout) < 400, ending
