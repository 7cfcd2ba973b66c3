"""Pictures with 15 points by name, in a csv or JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visagist.errors import TrainingError
from visagist.photo.face import POINTS15, points15_of
from visagist.recipe import Item
from visagist.training.data import made_up
from visagist.training.data.kaggle import COLUMNS
from visagist.training.data.readers import read

DRAWN = made_up.items(3, 0, size=64, people=2)


def name_of(item: Item) -> str:
    return Path(item.name).stem + ".png"


def points_of(item: Item) -> np.ndarray:
    return points15_of(np.asarray(item.faces[0].points))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "faces" / "pictures").mkdir(parents=True)
    for item in DRAWN:
        Image.fromarray(item.photo.pixels).save(tmp_path / "faces" / "pictures" / name_of(item))
    return tmp_path / "faces"


def rows() -> list[dict[str, Any]]:
    found = []
    for item, fold in zip(DRAWN, ("train", "dev", "train")):
        cells = dict(zip(COLUMNS, (points_of(item) - 0.5).ravel().tolist()))
        found.append({"file": name_of(item), "fold": fold, "person": item.person, **cells})
    return found


def sheet(folder: Path, made: list[dict[str, Any]]) -> Path:
    with (folder / "points.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
    return folder / "points.csv"


def as_json(folder: Path, content: Any) -> Path:
    (folder / "points.json").write_text(json.dumps(content))
    return folder / "points.json"


def named(item: Item) -> dict[str, Any]:
    return dict(zip(POINTS15, (points_of(item) - 0.5).tolist()))


def test_a_csv_beside_pictures(folder: Path) -> None:
    made = rows()
    made[1]["nose_tip_x"] = made[1]["nose_tip_y"] = ""
    sheet(folder, made)
    items = read(folder)
    assert [item.person for item in items] == [item.person for item in DRAWN] and not items[0].complete
    for i, (item, drawn) in enumerate(zip(items, DRAWN)):
        (face,) = item.faces
        wanted = points_of(drawn)
        wanted[POINTS15.index("nose_tip")] = np.nan if i == 1 else wanted[POINTS15.index("nose_tip")]
        assert face.scheme == "kaggle15" and np.allclose(np.asarray(face.points), wanted, equal_nan=True)
        assert np.isfinite(face.box).all() and item.photo.size == (64, 64) and item.facts["set"] == "faces"
    assert len(read(folder, fold="dev")) == 1 and len(read(folder / "points.csv", needs=("all keypoints",))) == 2


def test_some_columns_are_enough_and_rows_of_one_file_are_faces(folder: Path) -> None:
    keep = ("file", "nose_tip_x", "nose_tip_y", "left_eye_center_x", "left_eye_center_y")
    made = [{k: row[k] for k in keep} for row in rows()]
    made[1]["file"] = made[0]["file"]
    items = read(sheet(folder, made))
    assert [len(item.faces) for item in items] == [2, 1]
    assert np.isfinite(np.asarray(items[1].faces[0].points)).all(1).sum() == 2


@pytest.mark.parametrize("listed", [True, False])
def test_json(folder: Path, listed: bool) -> None:
    content: Any = {name_of(item): named(item) for item in DRAWN}
    content[name_of(DRAWN[2])]["nose_tip"] = None
    if listed:
        content = [{"file": k, "points": v, "fold": "dev", "person": "p"} for k, v in content.items()]
    items = read(as_json(folder, content).parent if listed else as_json(folder, content), fold="dev")
    assert [item.name for item in items] == [name_of(item) for item in DRAWN]
    for item, drawn in zip(items[:2], DRAWN):
        assert np.allclose(np.asarray(item.faces[0].points), points_of(drawn))
    assert np.isnan(np.asarray(items[2].faces[0].points)[10]).all()
    assert items[0].person == ("p" if listed else None)


def test_offenders_are_named(folder: Path) -> None:
    made = rows()
    made[0]["mouth_left_corner_x"] = "left"
    made[1]["file"] = "gone.png"
    made[2] |= dict.fromkeys(COLUMNS[2:], "")
    sheet(folder, made)
    with pytest.raises(TrainingError) as caught:
        read(folder)
    for part in (
        "3 bad",
        "points.csv line 2: mouth_left_corner_x: 'left' is",
        "line 3: no picture named 'gone.png'",
        "line 4: fewer than two",
    ):
        assert part in str(caught.value)
    (folder / "points.csv").unlink()
    good, bad = named(DRAWN[0]), {"nose_tip": [1]}
    as_json(
        folder,
        [
            {"points": good},
            7,
            {"file": "a", "points": {"nose": [1, 2]}},
            {"file": "b", "points": bad},
            {"file": name_of(DRAWN[0]), "points": good},
        ],
    )
    with pytest.raises(TrainingError) as caught:
        read(folder)
    for part in (
        "4 bad",
        "entry 1: no 'file'",
        "entry 2",
        "entry 3: a: there is no point 'nose'",
        "entry 4: b: nose_tip is not [x, y]",
    ):
        assert part in str(caught.value)
    assert len(read(folder, skip_bad=True)) == 1


@pytest.mark.parametrize(
    "text", ['{"a.png": {"nose_tip": ', '"nose_tip"', "5", '["nose_tip"]', '{"a.png": ["nose_tip"]}', '{"nose_tip": 5}']
)
def test_damaged_json_ends_in_one_line(folder: Path, text: str) -> None:
    (folder / "points.json").write_text(text)
    with pytest.raises(TrainingError) as caught:
        read(folder / "points.json")
    assert "\n" not in caught.value.line()


def test_a_set_with_68_points_stays_one(folder: Path) -> None:
    """What was exported beside it does not hide it."""
    from visagist.training.data.kinds import POINT_COLUMNS

    sheet(folder, rows())
    with (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "fold", *POINT_COLUMNS))
        for item in DRAWN:
            writer.writerow((name_of(item), "train", *(np.asarray(item.faces[0].points) - 0.5).ravel()))
    assert {face.scheme for item in read(folder) for face in item.faces} == {"ibug68"}
    assert {face.scheme for item in read(folder / "points.csv") for face in item.faces} == {"kaggle15"}
