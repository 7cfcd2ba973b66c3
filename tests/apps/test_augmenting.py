"""`visagist augment`: a new set with moved points, continued after a stop, the same for the same seed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visagist import api, catalog
from visagist.apps import augmenting
from visagist.apps.cli import app
from visagist.photo.photo import is_marked
from visagist.recognize.embedding import Embedding, clip_of, person_of
from visagist.rotate import turn
from visagist.training.data.kinds import write_points
from visagist.training.data.made_up import items as drawn
from visagist.training.data.readers import read

Run = Callable[..., Any]
FEW = ("--most", "3", "--size", "64", "--quiet")


@pytest.fixture
def people(here: Path) -> Path:
    """Two drawn people in folders of their own, three pictures, with their points beside them."""
    points = []
    for item in drawn(3, seed=5, people=2, size=96):
        file = Path("people", str(item.person), item.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(item.photo.pixels).save(file)
        points.append((file.as_posix().removeprefix("people/"), item.faces[0].points))
    rows = ["file,identity,video", *(f"{name},{name.split('/')[0]},{i}" for i, (name, _) in enumerate(points))]
    write_points(Path("people", "points.csv"), points)  # type: ignore[arg-type]
    text = Path("people", "points.csv").read_text().splitlines()
    merged = [rows[0] + "," + text[0].removeprefix("file,")]
    merged += [row + "," + line.split(",", 1)[1] for row, line in zip(rows[1:], text[1:], strict=True)]
    Path("people", "points.csv").write_text("\n".join(merged) + "\n")
    return Path("people")


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["augment", *(str(a) for a in arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_new_set_with_people_clips_and_points(people: Path) -> None:
    done = call("people", *FEW)
    assert done.exit_code == 0, done.stderr
    made = read("people.augment", needs=("person", "points"))
    assert len(made) == 9 and {person_of(item) for item in made} == {"person00000", "person00001"}
    before = {clip_of(item) for item in read("people")}
    assert {clip_of(item) for item in made} == before  # renders are of the clip of their picture
    for item in made:
        assert max(item.photo.size) <= 64 and is_marked(Path("people.augment", item.name))
        points = item.faces[0].points
        assert points is not None and (points.mean(0) > 0).all() and (points.mean(0) < item.photo.size[::-1]).all()


def test_the_same_again_and_after_a_stop(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("people", "-o", "straight", *FEW).exit_code == 0
    written, count = augmenting._written, []

    def stops(*given: Any) -> int:
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return written(*given)

    monkeypatch.setattr(augmenting, "_written", stops)
    assert call("people", "-o", "stopped", *FEW).exit_code == 130
    monkeypatch.setattr(augmenting, "_written", written)
    csv = Path("stopped", "augmented.csv")
    assert len(csv.read_text().splitlines()) == 1 + 3
    csv.write_text(csv.read_text() + csv.read_text().splitlines()[1].replace("_s", "_x")[:90])  # cut off in the middle of a row
    assert call("people", "-o", "stopped", *FEW).exit_code == 0
    assert contents(Path("stopped")) == contents(Path("straight"))
    assert call("people", "-o", "other", *FEW, "--seed", "1").exit_code == 0
    assert contents(Path("other")).keys() != contents(Path("straight")).keys()


@pytest.mark.long
def test_several_processes_make_the_same(people: Path) -> None:
    for name, count in (("one", "1"), ("two", "2")):  # commands of their own: how many threads NumPy has is settled once
        command = [sys.executable, "-m", "visagist", "augment", "people", "-o", name, *FEW, "--processes", count]
        subprocess.run(command, check=True)
    assert contents(Path("two")) == contents(Path("one"))


def test_other_settings_are_not_mixed_in(people: Path) -> None:
    assert call("people", *FEW).exit_code == 0
    again = call("people", *FEW, "--shapes", "2")
    assert again.exit_code == 3 and "[exists]" in again.stderr and "--overwrite" in again.stderr
    assert call("people", *FEW, "--shapes", "2", "--overwrite").exit_code == 0
    assert json.loads(Path("people.augment", "augment.json").read_text())["shapes"] == 2
    Path("full").mkdir(), Path("full", "mine.txt").write_text("mine")
    assert "[exists]" in call("people", *FEW, "-o", "full").stderr


def test_one_bad_picture_does_not_stop_the_others(people: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = sorted(people.rglob("*.png"))[0]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:200])
    assert call("people", *FEW).exit_code == 0
    assert bad.name in caplog.text  # a row of a set that cannot be used is left out and told
    assert len(list(Path("people.augment").rglob("*.jpg"))) == 6
    bad.write_bytes(whole[:200] + whole[-40:])  # ends as a whole one does
    done = call("people", *FEW, "-o", "other")
    assert done.exit_code == 1 and f"{bad.name}: [" in done.stderr
    assert len(list(Path("other").rglob("*.jpg"))) == 6


def test_a_dry_run_counts_and_writes_nothing(people: Path) -> None:
    done = call("people", "--most", "3", "--size", "64", "--dry-run", "--sheet", "sheet.png")
    assert done.exit_code == 0 and "about 9 pictures of 3 photos" in done.stdout
    assert not Path("people.augment").exists()
    with Image.open("sheet.png") as sheet:
        assert 4 * 200 < sheet.size[0] < 5 * 200 and sheet.size[1] > 3 * 200  # each photo with its three views, none twice


def test_a_sheet_shows_photos_from_all_over_the_set() -> None:
    items = [(number, "") for number in range(60)]
    found = [number for number, _ in augmenting._spread(items)]
    assert found[:6] == [0, 10, 20, 30, 40, 50] and sorted(found) == list(range(60))
    assert augmenting._spread(items[:4]) == items[:4]


def test_nobody_who_is_measured_on_is_learnt_from_in_augmented_pictures(people: Path) -> None:
    head, *rows = Path("people", "points.csv").read_text().splitlines()
    folds = ["dev" if ",person00001," in row else "train" for row in rows]
    Path("people", "points.csv").write_text("\n".join([head + ",fold", *map(",".join, zip(rows, folds, strict=True))]) + "\n")
    assert call("people", *FEW).exit_code == 0  # the fold train alone
    assert {person_of(item) for item in read("people.augment")} == {"person00000"}
    assert call("people", "-o", "all", *FEW, "--fold", "all").exit_code == 0
    learnt = read(["people", "all"], fold="train")
    assert {person_of(item) for item in learnt} == {"person00000"} and len(learnt) > 2
    table = Path("all", "augmented.csv")
    table.write_text(table.read_text().replace(",dev,", ",train,"))  # a table that lost its folds
    learnt, dev = read(["people", "all"], fold="train"), read(["people", "all"], fold="dev")
    assert {person_of(item) for item in learnt} == {"person00000", "person00001"}
    third = [dataclasses.replace(item, person="third") for item in learnt if person_of(item) == "person00000"]
    learnt, measured = Embedding().split([*learnt, *third], dev)
    assert {person_of(item) for item in learnt} == {"person00000", "third"}
    assert measured == dev


def test_hidden_skin_has_the_colours_of_the_texture_basis(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    carry = turn.carry

    def seen(*where: Any, **how: Any) -> Any:
        given.append(how["skin"])
        return carry(*where, **how)

    monkeypatch.setattr(turn, "carry", seen)
    assert call("people", *FEW).exit_code == 0
    assert len(given) == 9 and all(skin is not None and skin.shape[1] == 3 for skin in given)
    settings = json.loads(Path("people.augment", "augment.json").read_text())
    assert settings["texture"] == catalog.load("texture", "cpu").card.sha256[:12]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no such file"),
        (["people", "--yaws", "-90"], "-75 to 75"),
        (["people", "--yaws", "left"], "no list of numbers"),
        (["people", "--expressions", "grin"], "no expression"),
        (["people", "-o", "people"], "people: [usage] the new pictures would lie among the old"),
        (["people", "-o", "people/sub"], "among the old"),
        (["other", "people", "-o", "link/sub"], "among the old"),
        (["people/", "-o", "new", "--sheet", "people/look.png"], "the sheet would lie among the old"),
    ],
)
def test_wrong_usage(people: Path, arguments: list[str], said: str) -> None:
    Path("link").symlink_to("people"), Path("other").mkdir()
    done = call(*arguments)
    assert done.exit_code == 2 and said in done.stderr
    assert not Path("people", "sub").exists() and not Path("new").exists()


def test_the_default_place_of_the_current_folder(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(people)
    assert call(".", *FEW, "--most", "1").exit_code == 0
    assert len(read("../people.augment")) == 3 and len(read(".")) == 3


def test_pictures_without_points_are_looked_at(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {item.photo.pixels.tobytes(): item.faces for item in read("people")}
    Path("people", "points.csv").unlink()
    monkeypatch.setattr(api, "detect", lambda photo, **more: known[photo.pixels.tobytes()])
    monkeypatch.setattr(api, "landmarks", lambda photo, faces, **more: tuple(faces))
    assert call("people", *FEW).exit_code == 0
    assert {item.person for item in read("people.augment")} == {"person00000", "person00001"}
    monkeypatch.setattr(api, "detect", lambda photo, **more: ())
    done = call("people", *FEW, "-o", "none")
    assert done.exit_code == 3 and done.stderr.count("[no-face]") == 3
    assert np.count_nonzero(["jpg" in name for name in contents(Path("none"))]) == 0
