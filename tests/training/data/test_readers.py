"""Sets of pictures with a csv: the same as the shared ones in format, with drawn faces for content."""

from __future__ import annotations

import csv
import io
import logging
import pickle
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visagist.errors import PhotoError, TrainingError
from visagist.recipe import Item
from visagist.training.data import made_up
from visagist.training.data.kinds import POINT_COLUMNS, write_points
from visagist.training.data.pictures import MEMORY, warm
from visagist.training.data.readers import read

Files = dict[str, bytes]


def encoded(pixels: np.ndarray, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def tar(path: Path, files: Files) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def loose(path: Path, files: Files) -> None:
    for name, data in files.items():
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(data)


def sheet(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


DRAWN = made_up.items(4, 0, size=64, people=2)
FOLDS = ("train", "dev", "train", "dev")


def frame_rows() -> list[dict[str, object]]:
    rows = []
    for item, fold in zip(DRAWN, FOLDS):
        points = item.faces[0].points
        assert points is not None
        cells = dict(zip(POINT_COLUMNS, (points - 0.5).ravel().tolist()))
        rows.append({"file": name_of(item), "identity": item.person, "fold": fold, "width": 64, "height": 64, **cells})
    return rows


def name_of(item: Item) -> str:
    return Path(item.name).stem + ".jpg"


def pictures() -> Files:
    return {name_of(item): encoded(item.photo.pixels) for item in DRAWN}


@pytest.fixture(params=[tar, loose], ids=["tar", "folder"])
def pack(request: pytest.FixtureRequest) -> Callable[[Path, Files], None]:
    return request.param


def frames(folder: Path, pack: Callable[[Path, Files], None] = tar, rows: Sequence[dict[str, object]] | None = None) -> Path:
    pack(folder / "crops.tar", pictures())
    sheet(folder / "anything.csv", rows or frame_rows())
    sheet(folder / "attributes.csv", [{"file": name_of(i), "smiling": 1, "hair_colour": "grey"} for i in DRAWN])
    return folder


# ---- faces with 68 points ----


def test_frames(tmp_path: Path, pack: Callable[[Path, Files], None]) -> None:
    items = read(frames(tmp_path / "faces", pack))
    assert [item.name for item in items] == [name_of(item) for item in DRAWN]
    for item, drawn in zip(items, DRAWN):
        assert item.faces[0].points == pytest.approx(drawn.faces[0].points)  # half a pixel back
        assert item.faces[0].box == pytest.approx(drawn.faces[0].box)
        assert not item.complete and item.person == drawn.person
        assert item.facts["smiling"] == 1.0 and item.facts["hair_colour"] == "grey" and item.facts["set"] == "faces"
        assert item.photo.size == (64, 64) and item.photo is item.photo
    assert not set(items[0].facts) & set(POINT_COLUMNS)


def test_folds_choose_rows_where_there_are_any(tmp_path: Path) -> None:
    folder = frames(tmp_path)
    assert len(read(folder, fold="train")) == 2 and {i.facts["fold"] for i in read(folder, fold="dev")} == {"dev"}
    assert len(read(folder, fold="all")) == len(read(folder, fold=None)) == 4
    with pytest.raises(TrainingError, match="fold 'test'") as caught:
        read(folder, fold="test")
    assert caught.value.code == "no-data"
    frames(tmp_path, rows=[{k: v for k, v in row.items() if k != "fold"} for row in frame_rows()])
    assert len(read(folder, fold="dev")) == 4


def test_several_rows_of_one_file_are_several_faces(tmp_path: Path) -> None:
    rows = frame_rows()
    rows[1]["file"] = rows[0]["file"]
    assert [len(item.faces) for item in read(frames(tmp_path, rows=rows))] == [2, 1, 1]


def test_a_folder_of_sets_and_the_csv_itself_are_paths_too(tmp_path: Path) -> None:
    frames(tmp_path / "a")
    frames(tmp_path / "b")
    assert len(read(tmp_path)) == 8
    assert len(read([tmp_path / "a" / "anything.csv"])) == 4
    assert len(read([str(tmp_path / "a"), tmp_path / "b"], fold="dev")) == 4


def test_pictures_beside_sets_are_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames(tmp_path / "made")
    (tmp_path / "weights").mkdir()
    assert len(read(tmp_path)) == 4 and "left out" not in caplog.text
    loose(tmp_path / "any.csv", {"ann/1.jpg": encoded(DRAWN[0].photo.pixels), "bob.png": encoded(DRAWN[1].photo.pixels, "PNG")})
    assert len(read(tmp_path)) == 4
    assert f"only the sets in {tmp_path} are read: made; left out are pictures in ann, bob.png" in caplog.text


def test_bad_rows_are_named_or_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = frame_rows()
    rows[0]["x3"] = "left"
    rows[1]["y67"] = "nan"
    rows[2]["file"] = "gone.jpg"
    folder = frames(tmp_path, rows=rows)
    with pytest.raises(TrainingError) as caught:
        read(folder)
    assert caught.value.code == "bad-data" and caught.value.path == str(folder / "anything.csv")
    for part in (
        "3 bad entries",
        "anything.csv line 2: x3: 'left' is not a number",
        "line 3: y67: 'nan' is not a finite",
        "line 4: no pict",
    ):
        assert part in str(caught.value)
    with caplog.at_level(logging.WARNING):
        assert len(read(folder, skip_bad=True)) == 1
    assert "skipped 3 bad entries" in caplog.text


def test_only_five_offenders_are_named(tmp_path: Path) -> None:
    rows = [{**frame_rows()[0], "file": f"{i}.jpg"} for i in range(9)]
    with pytest.raises(TrainingError) as caught:
        read(frames(tmp_path, rows=rows))
    assert str(caught.value).count(" line ") == 5 and "and 4 more" in str(caught.value)


def test_points_in_other_coordinates_are_bad(tmp_path: Path) -> None:
    rows = frame_rows()
    for c in POINT_COLUMNS:
        rows[0][c] = float(str(rows[0][c])) * 4
        rows[1][c] = 7
    with pytest.raises(TrainingError, match=r"line 2: points lie up to .*line 3: the points lie on one line"):
        read(frames(tmp_path, rows=rows))


def test_a_short_line_and_a_file_that_is_no_text(tmp_path: Path) -> None:
    folder = frames(tmp_path)
    with (folder / "anything.csv").open("a") as file:
        file.write("a.jpg,1,2\n")
    with pytest.raises(TrainingError, match=r"line 6: 3 cells instead of 141"):
        read(folder)
    (folder / "attributes.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TrainingError, match="not a readable csv"):
        read(folder)


# ---- damaged pictures ----


def damaged(folder: Path, name: str, data: bytes) -> Path:
    tar(folder / "crops.tar", pictures() | {name: data})
    sheet(folder / "anything.csv", frame_rows())
    return folder


@pytest.mark.parametrize("data", [b"", b"text", encoded(DRAWN[0].photo.pixels)[:400]], ids=["empty", "text", "truncated"])
def test_damaged_pictures_are_seen_before_training(tmp_path: Path, data: bytes) -> None:
    folder = damaged(tmp_path, name_of(DRAWN[2]), data)
    with pytest.raises(TrainingError, match=r"1 bad entry: .*anything.csv line 4: .*face00002.jpg"):
        read(folder)
    assert len(read(folder, skip_bad=True)) == 3


def test_damage_inside_is_seen_when_warmed(tmp_path: Path) -> None:
    whole = encoded(DRAWN[2].photo.pixels, "PNG")
    middle = len(whole) // 2
    folder = damaged(
        tmp_path, name_of(DRAWN[2]), whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 9]) + whole[middle + 9 :]
    )
    items = read(folder)
    with pytest.raises(PhotoError):
        _ = items[2].photo
    with pytest.raises(TrainingError, match=r"1 bad entry: .*face00002.jpg"):
        warm(items)
    assert warm(items, skip_bad=True) == [items[0], items[1], items[3]]


def test_compressed_or_broken_archives_are_refused(tmp_path: Path) -> None:
    frames(tmp_path)
    (tmp_path / "crops.tar").write_bytes(b"\x1f\x8b not a tar" * 100)
    with pytest.raises(TrainingError, match="pack without compression"):
        read(tmp_path)


def test_memory_is_kept_up_to_its_limit_and_not_sent_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = read(frames(tmp_path))[0]
    sent = pickle.dumps(item.load)
    assert item.photo is item.photo
    assert len(pickle.dumps(item.load)) == len(sent)
    assert np.array_equal(pickle.loads(sent)().pixels, item.photo.pixels)
    monkeypatch.setattr(MEMORY, "limit", 0)
    other = read(tmp_path)[1]
    assert other.photo is not other.photo and np.array_equal(other.photo.pixels, other.photo.pixels)


# ---- portraits, and points for them ----


def portraits(folder: Path) -> Path:
    tar(folder / "portraits.tar", pictures())
    sheet(folder / "portraits.csv", [{"file": name_of(i), "name": "N. N.", "fold": f} for i, f in zip(DRAWN, FOLDS)])
    sheet(folder / "attributes.csv", [{"file": name_of(i), "age_2020": 40} for i in DRAWN])
    return folder


def test_portraits_have_no_faces_until_points_are_given(tmp_path: Path) -> None:
    folder, extra = portraits(tmp_path / "portraits"), tmp_path / "landmarks68.csv"
    items = read(folder, fold="dev")
    assert [i.person for i in items] == ["face00001", "face00003"]
    assert all(not i.faces and not i.complete and i.facts["age_2020"] == 40 for i in items)
    with pytest.raises(TrainingError, match="none of 4 items has box; name a csv of points, too"):
        read(folder, needs=("box",))
    points = DRAWN[1].faces[0].points
    assert points is not None
    write_points(extra, [(name_of(DRAWN[1]), points)])
    labelled = read([extra, folder], fold="dev")
    assert labelled[0].faces[0].points == pytest.approx(points, abs=0.006) and labelled[0].complete
    assert not labelled[1].faces and not labelled[1].complete
    assert len(read([folder, extra], needs=("points",))) == 1
    extra.rename(folder / "landmarks68.csv")  # beside the pictures it is found without being named
    assert len(read(folder, needs=("points",))) == 1
    assert len(read([folder, folder / "landmarks68.csv"], needs=("points",))) == 1


def test_a_list_of_files_and_people(tmp_path: Path) -> None:
    loose(tmp_path / "list.csv", {"a/1.jpg": encoded(DRAWN[0].photo.pixels), "a/2.jpg": encoded(DRAWN[1].photo.pixels)})
    sheet(tmp_path / "list.csv", [{"file": "a/1.jpg", "identity": "12345678"}, {"file": "a/2.jpg", "identity": "Ann"}])
    assert [item.person for item in read(tmp_path, needs=("person",))] == ["12345678", "Ann"]


def test_a_portrait_listed_twice_is_bad(tmp_path: Path) -> None:
    folder = portraits(tmp_path)
    with (folder / "portraits.csv").open("a") as file:
        file.write(f"{name_of(DRAWN[0])},N. N.,dev\n")
    with pytest.raises(TrainingError, match="line 6: listed twice"):
        read(folder)


# ---- pictures without faces, classes, plain pictures ----


def test_backgrounds_are_known_to_be_empty(tmp_path: Path, pack: Callable[[Path, Files], None]) -> None:
    pack(tmp_path / "b.tar", pictures())
    sheet(tmp_path / "list.csv", [{"file": name_of(i), "synset": "n1", "class": "hen", "fold": f} for i, f in zip(DRAWN, FOLDS)])
    items = read(tmp_path, fold="train", needs=("box",))
    assert len(items) == 2 and all(item.complete and not item.faces and item.facts["class"] == "hen" for item in items)


def classes(*names: str) -> Files:
    small = encoded(DRAWN[0].photo.pixels[:8, :8])
    return {f"{name}/{i}.jpg": small for name in names for i in range(2)}


def test_folders_of_classes(tmp_path: Path, pack: Callable[[Path, Files], None]) -> None:
    pack(tmp_path / "x.tar", classes("train/dog", "train/cat", "test/dog", "test/cat", "train/person"))
    items = read(tmp_path, needs=("label",))
    assert {item.facts["class"]: item.label for item in items} == {"cat": 0, "dog": 1, "person": 2} and len(items) == 10
    assert {item.name.split("/")[0] for item in read(tmp_path, fold="dev")} == {"test"}
    assert {item.facts["class"] for item in items if item.complete} == {"dog", "cat"}  # persons have faces


def test_classes_in_several_archives_are_counted_together(tmp_path: Path) -> None:
    tar(tmp_path / "1.tar", classes("dog"))
    tar(tmp_path / "2.tar", classes("cat"))
    assert [item.label for item in read([tmp_path / "1.tar", tmp_path / "2.tar"])] == [1, 1, 0, 0]
    assert [item.label for item in read(tmp_path)] == [1, 1, 0, 0]


def test_plain_pictures(tmp_path: Path) -> None:
    loose(tmp_path / "x", pictures())
    (tmp_path / "._face.jpg").write_bytes(b"what a Mac leaves behind")
    items = read(tmp_path)
    assert len(items) == 4 and all(item.label is None and not item.complete for item in items)


# ---- lips ----


def triples(folders: Sequence[str] = ("bare", "glaze", "gloss")) -> Files:
    files: Files = {}
    for index, item in enumerate(made_up.lips(3, 0)):
        for folder, load in zip(folders, (item.load, item.targets["glazed"], item.targets["glossy"])):
            files[f"{folder}/{index:03}.png"] = encoded(load().pixels, "PNG")
    return files


def test_lips(tmp_path: Path, pack: Callable[[Path, Files], None]) -> None:
    pack(tmp_path / "lips.tar", triples() | {"photos/001.png": encoded(DRAWN[0].photo.pixels, "PNG")})
    items = read(tmp_path, needs=("glazed", "glossy"))  # without a csv
    assert len(items) == 3 and items[0].name == "bare/000.png"
    drawn = made_up.lips(3, 0)[1]
    assert np.array_equal(items[1].photo.pixels, drawn.photo.pixels)
    assert np.array_equal(items[1].targets["glossy"]().pixels, drawn.targets["glossy"]().pixels)
    sheet(tmp_path / "list.csv", [{"number": f"{i:03}", "fold": f} for i, f in enumerate(("train", "dev", "dev"))])
    assert [item.name for item in read(tmp_path, fold="dev")] == ["bare/001.png", "bare/002.png"]


def test_lips_with_unequal_stems_are_refused_by_name(tmp_path: Path) -> None:
    files = triples()
    del files["glaze/001.png"]
    files["gloss/007.png"] = files["gloss/002.png"]
    tar(tmp_path / "lips.tar", files)
    with pytest.raises(TrainingError, match=r"2 bad entries: .*001 is not among glazed; .*007 is not among bare and glazed"):
        read(tmp_path)
    assert [item.name for item in read(tmp_path, skip_bad=True)] == ["bare/000.png", "bare/002.png"]
    sheet(tmp_path / "list.csv", [{"number": "000"}, {"number": "100"}])
    with pytest.raises(TrainingError, match=r"3 bad entries: .*list.csv line 3: no pictures numbered 100"):
        read(tmp_path)


def test_lips_of_one_finish(tmp_path: Path) -> None:
    tar(tmp_path / "lips.tar", triples(("bare", "glaze")))
    assert len(read(tmp_path, needs=("glazed",))) == 3
    with pytest.raises(TrainingError, match="none of 3 items has glossy"):
        read(tmp_path, needs=("glossy",))


# ---- nothing ----


def test_nothing_to_read(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "none", "no such"), (tmp_path, "no pictures")):
        with pytest.raises(TrainingError, match=what) as caught:
            read(path)
        assert caught.value.code == "no-data"
    with pytest.raises(TrainingError, match="no items"):
        read([])
