"""15 points by command: the csv, the mark of what is probably no face, one run with a small network from photo to drawn copy."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visagist import api, catalog
from visagist.photo.face import POINTS15, Face
from visagist.photo.photo import Photo, is_marked
from visagist.training.data import made_up
from visagist.training.data.readers import read

Write = Callable[..., Path]
Run = Callable[..., Any]
REAL = {name: getattr(api, name) for name in ("landmarks", "detect")}
REAL_LOAD = catalog.load
COLUMNS = [f"{name}_{axis}" for name in POINTS15 for axis in "xy"]


def fifteen(photo: Photo, faces: Sequence[Face] | None = None, **options: Any) -> tuple[Face, ...]:
    """As many faces as there are, the second of them doubted."""
    grid = np.stack([np.arange(15), np.arange(15) * 2], 1) + 0.5
    doubts = [None, 'the eyes are below the mouth, "really"']
    return tuple(
        Face(f.box, score=f.score, points=grid + i, scheme="kaggle15", spread=np.full(15, 0.25), doubt=doubts[i % 2])
        for i, f in enumerate(faces or ())
    )


@pytest.fixture
def run15(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(api, "landmarks", fifteen)
    return run


def test_csv_is_what_training_reads(here: Path, photo: Write, run15: Run) -> None:
    photo("in/a.png", faces=2, size=(80, 80))
    photo("in/none.png", faces=0)
    photo("in/sub/b, c.png")
    done = run15("landmarks", "--csv", "in")
    assert done.code == 0
    header, *rows = csv.reader(done.out.splitlines())
    assert header == ["file", *COLUMNS, "face", "score", "doubt"]
    assert [row[0] for row in rows] == ["in/a.png", "in/a.png", "in/sub/b, c.png"]
    assert [row[31] for row in rows] == ["1", "2", "1"] and rows[1][33] == 'the eyes are below the mouth, "really"'
    assert [float(v) for v in rows[0][1:5]] == [0, 0, 1, 2]  # pixel indices
    Path("points.csv").write_text(done.out)
    items = read("points.csv")
    assert [(Path(item.name).name, len(item.faces)) for item in items] == [("a.png", 2), ("b, c.png", 1)]
    assert np.allclose(np.asarray(items[0].faces[0].points), np.stack([np.arange(15), np.arange(15) * 2], 1) + 0.5)


def test_csv_of_68_points_goes_with_the_photos(here: Path, photo: Write, run: Run) -> None:
    photo("in/a.png", size=(80, 80))
    done = run("landmarks", "--csv", "in")
    (header, row) = csv.reader(done.out.splitlines())
    assert header[:3] == ["file", "x0", "y0"] and len(header) == len(row) == 137


def test_csv_and_json_are_two_ways(here: Path, photo: Write, run15: Run) -> None:
    photo("a.png")
    done = run15("landmarks", "--csv", "--json", "a.png")
    assert (done.code, len(done.err.splitlines()), "[usage]" in done.err) == (2, 1, True)
    done = run15("landmarks", "--csv", "a.png", "gone.png")
    assert done.code == 1 and len(done.out.splitlines()) == 2 and "gone.png: [missing]" in done.err
    assert run15("landmarks", "--csv", "gone.png").out == ""


def test_what_is_probably_no_face_is_marked(here: Path, photo: Write, run15: Run) -> None:
    photo("a.png", faces=2, size=(80, 80))
    (record,) = run15("landmarks", "--json", "a.png").records
    assert ["doubt" in face for face in record["faces"]] == [False, True] and record["faces"][0]["spread"] == [0.25] * 15
    lines = run15("landmarks", "a.png").out.splitlines()
    assert "face?" not in lines[1] and "face?" in lines[2] and "kaggle15" in lines[1]


def test_from_photo_to_drawn_copy(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network trained for two steps, by its run folder; boxes from the fake finder."""
    from visagist.landmarks.keypoint_cnn import Keypoints
    from visagist.training.loop import train

    small = Keypoints(widths=(4, 4, 8, 8), map_width=8, steps=2, batch=2)
    train(small, made_up.items(3), here / "run", system="keypoint-cnn", workers=0, quiet=True)
    monkeypatch.setattr(api, "landmarks", REAL["landmarks"])
    monkeypatch.setattr(catalog, "load", REAL_LOAD)
    Image.fromarray(made_up.items(1, size=300)[0].photo.pixels).save("a.png")
    done = run("landmarks", "--model", "run", "a.png", "--json", "-o", "drawn.png")
    assert (done.code, done.err) == (0, "")
    (face,) = done.records[0]["faces"]
    assert face["scheme"] == "kaggle15" and len(face["points"]) == 15 and face["pose"] is None and len(face["spread"]) == 15
    assert is_marked("drawn.png") and not np.array_equal(Photo.open("drawn.png").pixels, Photo.open("a.png").pixels)
    done = run("landmarks", "--model", "keypoint-cnn:none", "a.png")
    assert done.code == 2
