"""Labels that are wrong, through the whole commands: file and line on stderr and exit code 4, or a count with --skip-bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visagist import catalog
from visagist.training.data import made_up
from visagist.training.data.pictures import warm
from visagist.training.data.readers import read

Run = Callable[..., Any]
REAL_LOAD = catalog.load
TINY = ["--preset", "face-sheet", "--steps", "2", "--batch", "2", "--warm", "1", "--workers", "0", "--quiet", "--device", "cpu"]


@pytest.fixture
def faces(here: Path) -> Path:
    """Six drawn pictures with VOC labels, one face each, and two without any."""
    folder = here / "faces"
    (folder / "Annotations").mkdir(parents=True)
    items = [*made_up.items(6, size=128), *made_up.items(2, 1, size=128, faces=0)]
    for i, item in enumerate(items):
        Image.fromarray(item.photo.pixels).save(folder / f"{i}.png")
        text = ["<annotation>", f"<filename>{i}.png</filename>"]
        for face in item.faces:
            x0, y0, x1, y1 = (round(min(max(v, 0), 128)) for v in face.box)
            corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
            text.append(f"<object><name>face</name><bndbox>{corners}</bndbox></object>")
        (folder / "Annotations" / f"{i}.xml").write_text("\n".join([*text, "</annotation>"]))
    return folder


def spoil(folder: Path) -> list[str]:
    """Seven bad entries in the files 0 to 6; gives how the first five are named."""
    notes = folder / "Annotations"

    def change(number: int, old: str, new: str) -> None:
        file = notes / f"{number}.xml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    change(0, "<xmax>", "<xmax>-")  # swapped
    change(1, "<xmax>", "<xmax>9")  # beyond the picture
    change(2, "</annotation>", "")  # malformed
    change(3, "<name>face", "<name>fcae")
    change(4, "<xmin>", "<xmin>x")
    (folder / "5.png").unlink()
    (folder / "6.png").write_bytes((folder / "6.png").read_bytes()[:900])
    whys = ["swapped corners", "a box beyond the picture", "not readable XML", "class 'fcae' is not among face", "is not a number"]
    return [
        f"{Path('faces') / 'Annotations' / f'{i}.xml'} line {4 if i == 2 else 3}: {why}" for i, why in enumerate(whys) if i != 4
    ]


def test_train_and_evaluate_name_the_first_five_and_stop(faces: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    named = spoil(faces)
    monkeypatch.setattr(catalog, "load", REAL_LOAD)
    for command in (["train", "yolo", "--data", "faces", "--out", "run", *TINY], ["evaluate", "yolo", "--data", "faces"]):
        done = run(*command)
        assert (done.code, done.out, len(done.err.splitlines())) == (4, "", 1), done.err
        assert "[bad-data] 7 bad entries: " in done.err and "; and 2 more; --skip-bad leaves them out" in done.err
        for name in named:
            assert name in done.err
    assert not Path("run").exists()


def test_train_and_evaluate_go_on_without_them_and_say_how_many(
    faces: Path, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalog, "load", REAL_LOAD)
    whole = run("evaluate", "yolo", "--data", "faces", "--quiet").records[0]
    assert (whole["n_faces"], whole["n_photos"]) == (6, 8)
    shutil.copytree(faces, "spoilt")
    spoil(Path("spoilt"))
    # Left are 3 (a face of an unknown class is none) and 7, both without a face: nothing to learn from
    done = run("train", "yolo", "--data", "spoilt", "--out", "run", *TINY, "--skip-bad")
    assert (done.code, "[no-data] no picture of 5 has a box of face" in done.err) == (4, True), done.err
    done = run("train", "yolo", "--data", "spoilt", "faces", "--out", "run", *TINY, "--skip-bad")
    assert done.code == 0, done.err
    card = json.loads(Path("run/weights.json").read_text())
    assert sum(one["count"] for one in card["trained_on"]) == 5 + 8
    caplog.clear()
    done = run("evaluate", "yolo", "--weights", "run", "--data", "spoilt", "faces", "--skip-bad", "--quiet")
    assert done.code == 0, done.err
    assert (done.records[0]["n_faces"], done.records[0]["n_photos"]) == (6, 8 + 2)
    told = [r.message.partition(":")[0] for r in caplog.records]
    learnt = "these weights may have learnt from 13 of 13 pictures that they are measured on (the set has no folds)"
    assert told == ["skipped 7 bad entries", learnt]


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_data_without_a_box_or_without_anything(here: Path, run: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "load", REAL_LOAD)
    more = ["--out", "run", *TINY] if verb == "train" else ["--quiet"]
    for name, text in (("boxes.csv", "file,xmin,ymin,xmax,ymax\n"), ("a.json", '{"images":[],"annotations":[],"categories":[]}')):
        folder = here / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_text(text)
        done = run(verb, "yolo", "--data", folder, *more)
        assert (done.code, "[no-data]" in done.err, len(done.err.splitlines())) == (4, True, 1), done.err
    Image.fromarray(made_up.items(1)[0].photo.pixels).save(here / "boxes_csv" / "a.png")
    (here / "boxes_csv" / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax\na.png,,,,\n")
    done = run(verb, "yolo", "--data", here / "boxes_csv", *more)
    if verb == "train":
        assert (done.code, "no picture of 1 has a box of face" in done.err) == (4, True), done.err
    else:  # how often it finds faces where there are none can be asked
        assert (done.code, done.records[0]["ap50"], done.records[0]["n_photos"]) == (0, None, 1)


@pytest.mark.parametrize("system", ["embedding", "cifar-cnn"])
@pytest.mark.parametrize("ends", ["cut short", "as a whole one does"])
def test_a_damaged_picture_of_a_folder_of_people_or_classes(
    run: Run, here: Path, system: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "load", REAL_LOAD)  # recipes borrow networks
    for number, item in enumerate(made_up.items(4, size=64)):
        Path("people", "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(item.photo.pixels).save(Path("people", "ab"[number % 2], f"{number}.png"))
    bad = Path("people", "b", "3.png")
    whole = bad.read_bytes()
    bad.write_bytes(whole[:300] + (whole[-40:] if ends != "cut short" else b""))
    if (system, ends) != ("cifar-cnn", "as a whole one does"):  # seen when the pictures are decoded, in the first steps
        done = run("train", system, "--data", "people", "--out", "run")
        assert done.code == 4 and done.err.startswith(f"{bad}: [bad-data] 1 bad entry: {bad}: ")
        assert "--skip-bad leaves them out" in done.err and len(done.err.splitlines()) == 1
    assert [item.name for item in warm(read("people", skip_bad=True), skip_bad=True)] == ["a/0.png", "a/2.png", "b/1.png"]
