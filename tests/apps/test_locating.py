"""Folders of people without points: whose face is looked for, what is left out; and how an embedding is evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visagist import api, catalog
from visagist.apps.cli import app
from visagist.apps.locating import located
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recognize.embedding import Embedding
from visagist.training.data.kinds import write_points
from visagist.training.data.made_up import items as drawn
from visagist.training.data.readers import read
from visagist.training.loop import train

Known = dict[bytes, tuple[Face, ...]]
POOLED: dict[str, Any] = {"system": "embedding", "card": {"preset": "pooled"}, "workers": 0, "threads": 1, "quiet": True}


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Known]:
    """Four drawn people in folders, two pictures each, and one picture without a face; what the networks would see in them."""
    known: Known = {}
    for number, item in enumerate(drawn(8, seed=2, people=4, size=64)):
        file = Path("people", str(item.person), f"{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(item.photo.pixels).save(file)
        known[item.photo.pixels.tobytes()] = item.faces
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save("people/person00000/nobody.png")
    monkeypatch.setattr(api, "detect", lambda photo, **more: known.get(photo.pixels.tobytes(), ()))
    monkeypatch.setattr(api, "landmarks", lambda photo, faces, **more: tuple(faces))
    return lambda: known


def test_the_largest_face_is_taken_and_faceless_pictures_are_left_out(
    folder: Callable[[], Known], caplog: pytest.LogCaptureFixture
) -> None:
    items = read("people", needs=("person",))
    assert len(items) == 9 and not any(item.faces for item in items)
    found = located(items, "cpu")
    assert len(found) == 8 and all(item.faces[0].points is not None for item in found)
    assert "no face in 1 of 9" in caplog.text and "nobody.png" in caplog.text
    assert located(found, "cpu") == found  # what has points is not looked at again


def test_evaluate_looks_for_faces_itself(folder: Callable[[], Known], tmp_path: Path) -> None:
    recipe = Embedding(window=32, widths=(8, 8, 8, 8), blocks=(1, 1, 1), dimensions=8, batch=8, steps=1)
    train(recipe, located(read("people"), "cpu"), tmp_path / "run", **POOLED)
    catalog.forget()
    done = CliRunner().invoke(app, ["evaluate", "embedding", "--data", "people", "--weights", str(tmp_path / "run"), "--quiet"])
    assert done.exit_code == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    assert {"pair_accuracy", "eer", "rank1", "pair_accuracy_interval", "n_not_found"} <= figures.keys()
    assert (figures["n"], figures["n_people"], figures["n_same"], figures["n_not_found"]) == (8, 4, 4, 1)
    assert isinstance(Photo.open("people/person00000/nobody.png"), Photo)


def test_evaluate_with_the_labelled_faces(folder: Callable[[], Known], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Embedding(window=32, widths=(8, 8, 8, 8), blocks=(1, 1, 1), dimensions=8, batch=8, steps=1)
    train(recipe, located(read("people"), "cpu"), tmp_path / "run", **POOLED)
    catalog.forget()
    asked = ["evaluate", "embedding", "--data", "people", "--weights", str(tmp_path / "run"), "--finder", "none", "--quiet"]
    bare = CliRunner().invoke(app, asked)
    assert bare.exit_code == 4 and "[no-data]" in bare.stderr  # nobody says where the faces are
    rows = [(str(file.relative_to("people")), (face.points, file.parent.name)) for file in sorted(Path("people").rglob("*.png"))
            for face in folder().get(Photo.open(file).pixels.tobytes(), ())]  # fmt: skip
    write_points(Path("points.csv"), [(name, points) for name, (points, _) in rows])
    head, *lines = Path("points.csv").read_text().splitlines()
    named = [head + ",identity", *(f"{line},{who}" for line, (_, (_, who)) in zip(lines, rows, strict=True))]
    Path("people", "points.csv").write_text("\n".join(named) + "\n")
    monkeypatch.setattr(api, "detect", lambda photo, **more: pytest.fail("a finder was asked"))
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    assert (figures["n"], figures["n_pairs"], figures["n_not_found"]) == (8, 28, 0)
