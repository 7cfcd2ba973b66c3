"""Kaggle's keypoint files: tables with the documented columns, drawn here; gaps, quotes, CRLF, damage, submissions."""

from __future__ import annotations

import csv
import io
import json
import pickle
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visagist.errors import OutputError, TrainingError
from visagist.photo.face import POINTS15
from visagist.training.data import kaggle
from visagist.training.data.kaggle import COLUMNS
from visagist.training.data.readers import read

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (3, 96, 96), dtype=np.uint8)
POINTS = np.round(RNG.uniform(1, 95, (3, 15, 2)), 7) + 0.5
POINTS[1, 3:] = np.nan
POINTS[2, 4] = np.nan


def training(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    kaggle.write_training(folder / "training.csv", zip(PICTURES, POINTS))
    return folder / "training.csv"


def edited(file: Path, change: Callable[[list[list[str]]], Any], **style: Any) -> Path:
    """The csv with its cells changed in place."""
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines))
    change(rows)
    text = io.StringIO()
    csv.writer(text, **style).writerows(rows)
    file.write_bytes(text.getvalue().encode())
    return file


def lookup(folder: Path, rows: Sequence[tuple[Any, ...]], *, columns: int = 4, style: str = "\n") -> Path:
    names = ("RowId", "ImageId", "FeatureName", "Location")[:columns]
    lines = [",".join(names), *(",".join(str(cell) for cell in row[:columns]) for row in rows)]
    (folder / "IdLookupTable.csv").write_bytes((style.join(lines) + style).encode())
    return folder / "IdLookupTable.csv"


def checked(points: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A network that knows the answers, and looks whether it was given the right pictures."""

    def predict(pictures: np.ndarray) -> np.ndarray:
        assert pictures.dtype == np.uint8 and np.array_equal(pictures, PICTURES[: len(pictures)])
        return points

    return predict


# ---- reading and writing


def test_columns_are_in_the_order_of_the_competition() -> None:
    assert COLUMNS[:4] == ("left_eye_center_x", "left_eye_center_y", "right_eye_center_x", "right_eye_center_y")
    assert COLUMNS[20] == "nose_tip_x" and COLUMNS[-1] == "mouth_center_bottom_lip_y" and len(set(COLUMNS)) == 30


def test_what_is_written_is_read_exactly(tmp_path: Path) -> None:
    items = read(training(tmp_path / "kaggle"))
    assert len(items) == 3
    for item, picture, points in zip(items, PICTURES, POINTS):
        assert np.array_equal(item.photo.pixels, np.repeat(picture[..., None], 3, 2))
        (face,) = item.faces
        assert face.scheme == "kaggle15" and np.array_equal(face.points, points, equal_nan=True)
        assert item.facts["set"] == "kaggle"
        assert np.array_equal(pickle.loads(pickle.dumps(item)).photo.pixels, item.photo.pixels)
    text = (tmp_path / "kaggle" / "training.csv").read_text()
    kaggle.write_training(tmp_path / "again.csv", ((i.photo.pixels[..., 0], np.asarray(i.faces[0].points)) for i in items))
    assert (tmp_path / "again.csv").read_text() == text


def test_cells_are_pixel_indices(tmp_path: Path) -> None:
    file = training(tmp_path)
    edited(file, lambda rows: rows[1].__setitem__(slice(0, 2), ["66.0335639098", "39.0022736842"]))
    points = read(file)[0].faces[0].points
    assert points is not None and points[0].tolist() == [66.0335639098 + 0.5, 39.0022736842 + 0.5]


@pytest.mark.parametrize("style", [{"lineterminator": "\r\n"}, {"quoting": csv.QUOTE_ALL}, {}], ids=["crlf", "quotes", "plain"])
def test_quotes_line_ends_and_byte_order_marks(tmp_path: Path, style: dict[str, Any]) -> None:
    file = edited(training(tmp_path), lambda rows: None, **style)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b"\r\n")
    assert [np.array_equal(i.faces[0].points, p, equal_nan=True) for i, p in zip(read(file), POINTS)] == [True] * 3


def test_gaps_and_what_recipes_need(tmp_path: Path) -> None:
    folder = training(tmp_path).parent
    edited(folder / "training.csv", lambda rows: rows.append([""] * 30 + rows[1][30:]))
    assert len(read(folder)) == 4
    assert len(read(folder, needs=("keypoints",))) == 3  # a row without any point teaches nothing
    assert [i.name for i in read(folder, needs=("all keypoints",))] == ["training.csv:2"]
    with pytest.raises(TrainingError, match="none of 4 items has points"):
        read(folder, needs=("points",))


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    """Another order, and columns that somebody added: folds, people, anything."""

    def change(rows: list[list[str]]) -> None:
        for row, more in zip(rows, (["fold", "person", "note"], ["train", "a", "x"], ["dev", "b", ""], ["train", "a", "1"])):
            row[:] = more + row[::-1]

    folder = edited(training(tmp_path), change).parent
    assert [(i.person, i.facts.get("note")) for i in read(folder, fold="train")] == [("a", "x"), ("a", 1.0)]
    (dev,) = read(folder, fold="dev")
    assert np.array_equal(dev.faces[0].points, POINTS[1], equal_nan=True)


def test_files_that_lie_beside_are_no_labels(tmp_path: Path) -> None:
    folder = training(tmp_path).parent
    kaggle.write_test(folder / "test.csv", PICTURES)
    lookup(folder, [(1, 1, "nose_tip_x", "")])
    (folder / "SampleSubmission.csv").write_text("RowId,Location\n1,0\n")
    assert len(read(folder)) == 3 and len(read(folder, fold="dev")) == 3
    for alone in ("test.csv", "IdLookupTable.csv"):
        with pytest.raises(TrainingError) as caught:
            read(folder / alone)
        assert caught.value.code == "no-data"


# ---- damage


def wrong(rows: list[list[str]]) -> None:
    rows[1][0] = "left"
    rows[2][1] = "nan"
    rows[3][30] = " ".join(["7"] * 9215)
    rows.append(rows[1][:30])
    rows.append([*[""] * 30, " ".join(["7"] * 9215 + ["256"])])
    rows.append([*[""] * 30, " ".join(["7"] * 9215 + ["1.5"])])
    rows.append(["4000", *[""] * 29, " ".join(["7"] * 9216)])


def test_offenders_are_named_with_file_and_line(tmp_path: Path) -> None:
    file = edited(training(tmp_path), wrong)
    with pytest.raises(TrainingError) as caught:
        read(tmp_path)
    assert caught.value.code == "bad-data" and "\n" not in caught.value.line()
    for part in (
        "7 bad entries",
        "training.csv line 2: left_eye_center_x: 'left' is not a number",
        "line 3: left_eye_center_y: 'nan' is not a finite number",
        "line 4: Image has 9215 values instead of 9216",
        "line 5: 30 cells instead of 31",
        "line 6: value 9216 of Image is '256', not a whole number of 0 to 255",
        "and 2 more",
    ):
        assert part in str(caught.value)
    edited(file, lambda rows: rows.append([*POINTS[0].ravel(), " ".join(["7"] * 9216)]))
    assert len(read(file, skip_bad=True)) == 1


def test_missing_columns_are_named(tmp_path: Path) -> None:
    edited(training(tmp_path), lambda rows: rows[0].__setitem__(slice(2, 7), list("abcde")))
    with pytest.raises(
        TrainingError, match=r"line 1: no column right_eye_center_x, right_eye_center_y, left_eye_inner_corner_x and"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"Image\n", b"left_eye_center_x,Image\n1,2\n", bytes(range(256)), b"Image\n" + b"7" * 200_000]
)
def test_damaged_files_end_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "training.csv").write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        read(tmp_path, needs=("keypoints",))
    assert caught.value.code in ("bad-data", "no-data") and "\n" not in caught.value.line() and len(caught.value.line()) < 2000


@pytest.mark.parametrize("seed", range(12))
def test_a_file_damaged_anywhere_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    data = bytearray(training(tmp_path).read_bytes())
    rng = np.random.default_rng(seed)
    for _ in range(4):
        at = int(rng.integers(len(data)))
        data[at : at + int(rng.integers(1, 9))] = rng.integers(0, 256, int(rng.integers(0, 5)), dtype=np.uint8).tobytes()
    (tmp_path / "training.csv").write_bytes(data[: int(rng.integers(len(data) // 2, len(data)))])
    try:
        read(tmp_path)
    except TrainingError as error:
        assert "\n" not in error.line()


def test_pictures_of_another_kind_are_not_written(tmp_path: Path) -> None:
    for picture in (PICTURES[0].astype(float), PICTURES[0][:90]):
        with pytest.raises(ValueError, match="a picture is uint8"):
            kaggle.write_training(tmp_path / "out.csv", [(picture, POINTS[0])])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError):
        kaggle.write_test(tmp_path / "gone" / "test.csv", PICTURES)


# ---- submissions


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("style", ["\n", "\r\n"])
def test_a_submission_answers_what_is_asked_in_that_order(tmp_path: Path, columns: int, style: str) -> None:
    kaggle.write_test(tmp_path / "test.csv", PICTURES)
    asked = [(3, 2, "nose_tip_y", "?"), (1, 1, "left_eye_center_x", ""), (2, 3, "mouth_center_bottom_lip_x", "")]
    lookup(tmp_path, asked, columns=columns, style=style)
    points = np.random.default_rng(5).uniform(1, 96, (3, 15, 2))
    points[0, 0, 0] = 300.0
    points[1, POINTS15.index("nose_tip"), 1] = -7.0
    assert kaggle.submit([tmp_path], tmp_path / "out.csv", checked(points)) == 3
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines == ["RowId,Location", "3,0.00000", "1,96.00000", f"2,{points[2, 14, 0] - 0.5:.5f}"]


def test_the_real_table_s_size(tmp_path: Path) -> None:
    """27,124 rows of 1,783 pictures: 30 numbers for the first of them, 8 for the others."""
    kaggle.write_test(tmp_path / "test.csv", np.zeros((1783, 96, 96), np.uint8))
    rows, number = [], 0
    for image in range(1, 1784):
        for name in COLUMNS if image <= 584 else COLUMNS[:8]:
            number += 1
            rows.append((number, image, name, ""))
    rows += [(number + i, 1783, name, "") for i, name in enumerate(COLUMNS[8 : 8 + 27_124 - number], 1)]
    assert len(rows) == 27_124
    lookup(tmp_path, rows)
    answers = np.random.default_rng(0).normal(48, 60, (1783, 15, 2))
    assert (
        kaggle.submit([tmp_path / "test.csv", tmp_path / "IdLookupTable.csv"], tmp_path / "out.csv", lambda pictures: answers)
        == 27_124
    )
    with (tmp_path / "out.csv").open() as file:
        header, *found = csv.reader(file)
    assert header == ["RowId", "Location"] and len(found) == 27_124
    assert [int(row) for row, _ in found] == list(range(1, 27_125))
    values = np.array([float(value) for _, value in found])
    assert values.min() == 0 and values.max() == 96


def test_what_is_wrong_with_a_test_set_is_named(tmp_path: Path) -> None:
    kaggle.write_test(tmp_path / "test.csv", PICTURES)
    with pytest.raises(TrainingError, match="no files like IdLookupTable"):
        kaggle.submit([tmp_path], tmp_path / "out.csv", checked(POINTS))
    lookup(tmp_path, [(1, 1, "nose", ""), (1, 9, "nose_tip_x", ""), ("x", 1, "nose_tip_x", ""), (4, -1, "nose_tip_x", ""), (1,)])
    with (tmp_path / "test.csv").open("a") as file:
        file.write("2," + " ".join(["7"] * 9216) + "\n")
    with pytest.raises(TrainingError) as caught:
        kaggle.submit([tmp_path], tmp_path / "out.csv", checked(POINTS))
    assert "6 bad entries" in str(caught.value) and "and 1 more" in str(caught.value)
    for part in (
        "test.csv line 5: a second picture with ImageId 2",
        "no feature 'nose'",
        "no picture with ImageId 9",
        "RowId: 'x'",
        "-1",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "out.csv").exists()
    lookup(tmp_path, [])
    (tmp_path / "test.csv").write_text("ImageId,Image\n")
    with pytest.raises(TrainingError) as caught:
        kaggle.submit([tmp_path], tmp_path / "out.csv", checked(POINTS))
    assert caught.value.code == "no-data"


# ---- the command


def test_train_and_submit_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from visagist.apps.cli import main

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "kaggle"
    rng = np.random.default_rng(1)
    pictures, points = rng.integers(0, 256, (24, 96, 96), dtype=np.uint8), rng.uniform(10, 86, (24, 15, 2))
    points[20:, 4:] = np.nan
    folder.mkdir()
    kaggle.write_training(folder / "training.csv", zip(pictures, points))
    kaggle.write_test(folder / "test.csv", pictures[:3])
    lookup(folder, [(i, 1 + i % 3, name, "") for i, name in enumerate(COLUMNS, 1)])
    small = ["--widths", "4,4,8,8", "--map-width", "8", "--steps", "2", "--batch", "4"]
    assert main(["train", "keypoint-cnn", "--data", "kaggle", "--out", "best", "--workers", "0", "-q", *small]) == 0
    card = json.loads((tmp_path / "best" / "weights.json").read_text())
    assert card["trained_on"][0]["count"] == 22 and card["measured"][0]["n"] == 2  # a tenth was held back
    capsys.readouterr()
    assert main(["evaluate", "keypoint-cnn", "--data", "kaggle", "--weights", "best", "--submission", "out.csv", "-q"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["n"] == 24 and figures["n_submission"] == 30 and figures["rmse_96"] > 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 31
    crc = zlib.crc32((tmp_path / "out.csv").read_bytes())
    again = ["evaluate", "keypoint-cnn", "--data", "kaggle", "--weights", "best", "-q", "--submission"]
    assert main([*again, "out.csv"]) == 2 and "[output-clash]" in capsys.readouterr().err
    assert main([*again, "other.csv"]) == 0 and zlib.crc32((tmp_path / "other.csv").read_bytes()) == crc
    (folder / "training.csv").unlink()  # a submission needs no labels
    capsys.readouterr()
    assert main([*again, "third.csv"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rmse_96": None, "n": 0, "n_submission": 30}
    assert main([*again, "gone/fourth.csv"]) == 4 and "[unwritable]" in capsys.readouterr().err
