"""Bad input: each kind in the middle of a batch. The batch goes on, the failure is one line, nothing is lost or half-written."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visagist import api
from visagist.photo.face import Face, Pose
from visagist.photo.photo import Photo

Write = Callable[..., Path]
Run = Callable[..., Any]


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few kB that claims this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(4096))) + chunk(b"IEND", b"")


def exif_loop() -> bytes:
    """EXIF whose directory names itself as the next one."""
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x0112, 3, 1, 1) + struct.pack("<I", 8)


def portrait(size: tuple[int, int] = (80, 120)) -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(60, 200, (*size, 3), dtype=np.uint8))


def broken(kind: str, path: Path) -> None:
    portrait().save(path, quality=90)
    data = path.read_bytes()
    if kind == "zero":
        data = b""
    elif kind == "truncated":
        data = data[: len(data) // 3]
    elif kind == "text":
        data = b"a letter to my aunt"
    elif kind == "bomb":
        data = png_bomb(20_000, 20_000)
    elif kind == "svg":
        data = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("zero", "empty"), ("truncated", "truncated"), ("text", "not-a-photo"), ("bomb", "too-large"), ("svg", "unsupported")],
)
def test_a_file_that_is_no_sound_photo_fails_alone(here: Path, photo: Write, run: Run, kind: str, code: str) -> None:
    photo("in/a.jpg")
    broken(kind, Path("in/b.jpg"))
    photo("in/c.jpg")
    for verb in (["detect"], ["makeup", "--finish", "tint"]):
        done = run(*verb, "--json", "in")
        assert done.code == 1
        assert [record["error"] and record["error"]["code"] for record in done.records] == [None, code, None]
        assert len(done.failures) == 1
        assert done.failures[0].startswith(f"in/b.jpg: [{code}] ")
    assert sorted(os.listdir("in")) == ["a.jpg", "a.makeup.jpg", "b.jpg", "c.jpg", "c.makeup.jpg"]


def test_flipped_bits_fail_or_pass_but_never_break(here: Path, photo: Write, run: Run) -> None:
    rng = np.random.default_rng(11)
    whole = photo("whole.jpg", quality=90).read_bytes()
    Path("in").mkdir()
    for number in range(12):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 6):
            data[place] ^= 1 << int(rng.integers(8))
        Path(f"in/{number:02}.jpg").write_bytes(data)
    done = run("detect", "--json", "in")
    assert done.code in (0, 1, 3)
    assert len(done.records) == 12
    assert "Traceback" not in done.err


def test_exif_that_loops_is_read_past(here: Path, photo: Write, run: Run) -> None:
    photo("a.jpg", exif=exif_loop())
    assert run("makeup", "a.jpg", "--finish", "tint").code == 0


@pytest.mark.parametrize("size", [(1, 1), (4000, 1), (1, 4000)])
def test_the_smallest_pictures(here: Path, photo: Write, run: Run, size: tuple[int, int]) -> None:
    photo("a.png", size=size, faces=0)
    (record,) = run("detect", "--json", "a.png").records
    assert (record["size"], record["faces"]) == (list(size), [])
    assert run("makeup", "a.png", "--finish", "tint").code == 3


def test_the_pixel_limit_can_be_set(here: Path, photo: Write, run: Run) -> None:
    photo("a.png", size=(40, 60))
    assert run("detect", "a.png", "--max-pixels", "2400").code == 0
    done = run("detect", "a.png", "--max-pixels", "2399")
    assert (done.code, "[too-large]" in done.err) == (3, True)


def test_a_face_cut_by_the_border(here: Path, photo: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    points = np.stack([np.linspace(-20, 30, 68), np.linspace(-10, 20, 68)], 1)
    cut = Face((-22.5, -11.5, 32.5, 21.5), score=0.8, points=points, scheme="ibug68", pose=Pose(0, 0, 0))
    monkeypatch.setattr(api, "detect", lambda *a, **k: (cut,))
    monkeypatch.setattr(api, "landmarks", lambda photo, faces, **k: tuple(faces))
    (record,) = run("landmarks", "--json", "a.png", "-o", "drawn.png").records
    assert record["faces"][0]["box"] == [-22.5, -11.5, 32.5, 21.5]  # boxes are not clipped
    assert Photo.open("drawn.png").size == (40, 60)
    assert run("makeup", "a.png", "--finish", "tint").code == 0


@pytest.mark.parametrize("into", ["a_file/out", "a_file", "/proc/visagist"])
def test_a_place_that_cannot_be_written_fails_each_photo(
    here: Path, photo: Write, run: Run, into: str, calls: dict[str, int]
) -> None:
    photo("in/a.jpg")
    photo("in/b.jpg")
    Path("a_file").write_text("in the way")
    done = run("makeup", "in", "-o", into, "--finish", "tint", "--json")
    if into == "a_file":  # seen before work starts
        assert (done.code, done.out) == (2, "")
    else:
        assert (done.code, [r["error"]["code"] for r in done.records]) == (3, ["unwritable"] * 2)
        assert len(done.failures) == 2
    assert calls == {}  # no work is put into photos that cannot be written
    assert sorted(os.listdir("in")) == ["a.jpg", "b.jpg"]


def test_a_read_only_folder(here: Path, photo: Write, run: Run) -> None:
    photo("in/a.jpg")
    Path("out").mkdir(mode=0o555)
    if os.access("out", os.W_OK):
        pytest.skip("this user may write anywhere")
    done = run("makeup", "in", "-o", "out", "--finish", "tint")
    assert (done.code, "[unwritable]" in done.err) == (3, True)


def test_a_full_disk_leaves_nothing_behind(here: Path, photo: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    photo("b.png")
    flush = os.fsync
    calls: list[int] = []

    def full_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full_once)
    done = run("makeup", "a.png", "b.png", "--finish", "tint")
    assert done.code == 1
    assert done.failures == ["a.makeup.png: [unwritable] the file cannot be written: No space left on device"]
    assert sorted(os.listdir(".")) == ["a.png", "b.makeup.png", "b.png"]
