"""The benchmarks that compare systems run from start to finish, on drawn faces."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from visagist.training.data import made_up
from visagist.training.data.kinds import POINT_COLUMNS

ROOT = Path(__file__).parents[2]
PAGE = "# A page\n\n<!-- table: benchmarks/{}.py -->\nold\n<!-- end of table -->\n\nthe rest\n"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Twelve drawn portraits of six people with 68 points, and three pictures without faces; half of each for measuring."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rows = []
    for i, item in enumerate(made_up.items(12, size=200, people=6)):
        Image.fromarray(item.photo.pixels).save(folder / item.name)
        points = item.faces[0].points
        assert points is not None
        cells = dict(zip(POINT_COLUMNS, (points - 0.5).ravel().tolist()))
        rows.append({"file": item.name, "identity": item.person, "fold": "dev" if i % 6 < 3 else "train", **cells})
    with (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    with (nobody / "nobody.csv").open("w") as file:
        file.write("file,synset,class,fold\n")
        for i, item in enumerate(made_up.items(4, 1, size=200, faces=0)):
            Image.fromarray(item.photo.pixels).save(nobody / f"n{i}.png")
            file.write(f"n{i}.png,s,thing,{'dev' if i < 2 else 'train'}\n")
    return folder


def benchmark(name: str, tmp_path: Path, *options: str) -> str:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pictures").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text(PAGE.format(name))
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *options, "--out", tmp_path / "out", "--page", page]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    table = (tmp_path / "out" / f"{name}.md").read_text()
    assert page.read_text() == PAGE.format(name).replace("old\n", table)
    return done.stdout


@pytest.mark.long
def test_detectors_are_compared(faces: Path, tmp_path: Path) -> None:
    data = [str(faces), str(tmp_path / "nobody")]
    benchmark("detectors", tmp_path, "--data", *data, "--only", "yolo", "haar", "--fit", "6", "--time", "--timed", "2")
    rows = json.loads((tmp_path / "out" / "detectors.json").read_text())["detectors"]
    assert list(rows) == ["yolo", "haar"]
    for row in rows.values():
        assert row["n_photos"] == 8 and row["n_faces"] == 6
        assert row["per_second"] > 0 and row["memory_mb"] > 1
        assert row["ap50"] is not None and set(row["failures"]) <= {"missed", "misplaced", "doubled", "false"}


@pytest.mark.long
def test_points_are_compared(faces: Path, tmp_path: Path) -> None:
    options = ["--data", str(faces), "--only", "landmarks68", "--finder", "labels", "--time", "--timed", "2"]
    benchmark("points", tmp_path, *options)
    row = json.loads((tmp_path / "out" / "points.json").read_text())["systems"]["landmarks68"]
    assert row["n"] == 6 and 0 < row["nme_box"] < 0.2
    assert row["ms_per_face"] > 0 and row["memory_mb"] > 1
    for picture in ("out/landmarks68.png", "out/curves.png", "docs/pictures/points.png"):
        assert (tmp_path / picture).is_file()


@pytest.mark.long
def test_detectors_are_drawn_side_by_side(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "docs" / "detectors_side_by_side.py", "--out", tmp_path / "side.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with Image.open(tmp_path / "side.png") as picture:
        assert picture.width > 380
