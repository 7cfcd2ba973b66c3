"""Writing photos: complete or not at all, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from visagist.errors import OutputError
from visagist.photo import encoding
from visagist.photo.photo import Photo, Step

STEP = Step("makeup", "lipstick", "0123456789ab", {"finish": "glossy"})


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
