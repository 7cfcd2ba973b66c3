"""Films: what is written can be read again, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from visagist.errors import OutputError
from visagist.photo.film import ENDINGS, Film
from visagist.photo.photo import Step, read_history


def frame(level: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((*size, 3), (level, 255 - level, 0), np.uint8)


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_of_any_size_become_a_film_of_the_last_ones(ending: str, tmp_path: Path) -> None:
    film = Film(tmp_path / f"film{ending}")
    for level, size in ((0, (21, 33)), (120, (40, 60)), (240, (41, 61))):
        film.add(frame(level, size))
    film.save([Step("stylize", "gatys", "0123456789ab")])
    assert [p.name for p in tmp_path.iterdir()] == [f"film{ending}"]
    if ending in (".gif", ".webp"):
        with Image.open(film.path) as read:
            assert read.size == (60, 40)
            assert read.n_frames == 3
            read.seek(2)
            last = np.asarray(read.convert("RGB"))
        assert ending == ".webp" or b"made by visagist stylize" in film.path.read_bytes()
        assert ending == ".gif" or read_history(film.path)[0].system == "gatys"
    else:
        read = cv2.VideoCapture(str(film.path))
        frames = []
        while (got := read.read())[0]:
            frames.append(got[1][:, :, ::-1])
        assert len(frames) == 3 + 24
        last = frames[-1]
    assert last.shape == (40, 60, 3)
    assert np.abs(last.mean((0, 1)) - (240, 15, 0)).max() < 12


def test_long_frames_are_made_smaller() -> None:
    film = Film("never.gif")
    film.add(frame(0, (100, 2000)))
    assert film.frames[0].shape == (32, 640, 3)


def test_a_film_without_frames_is_no_file(tmp_path: Path) -> None:
    Film(tmp_path / "a.gif").save()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="use .gif") as told:
        Film(tmp_path / "a.mkv")
    assert told.value.code == "unsupported"
    (tmp_path / "a.gif").write_bytes(b"mine")
    with pytest.raises(OutputError) as told:
        Film(tmp_path / "a.gif")
    assert told.value.code == "exists"
    film = Film(tmp_path / "nowhere" / "a.gif")
    film.add(frame(0, (4, 4)))
    with pytest.raises(OutputError) as told:
        film.save()
    assert told.value.code == "unwritable"
    film = Film(tmp_path / "a.gif", overwrite=True)
    film.add(frame(0, (4, 4)))
    film.save()
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF")
