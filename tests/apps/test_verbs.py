"""detect, landmarks and makeup as commands, with fake networks: what is printed, written, counted and returned."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visagist import api
from visagist.errors import UsageError, WeightsError
from visagist.photo.face import Face
from visagist.photo.photo import Photo, is_marked

Write = Callable[..., Path]
Run = Callable[..., Any]


def test_detect_prints_one_object_per_photo_in_input_order(here: Path, photo: Write, run: Run) -> None:
    photo("in/b.png", faces=3)
    photo("in/a.jpg", size=(30, 20))
    done = run("detect", "--json", "in", "gone.jpg", "in/b.png")
    assert done.code == 1
    a, b, gone, again = done.records
    assert a == {
        "photo": "in/a.jpg",
        "size": [30, 20],
        "faces": [
            {"index": 1, "label": "face", "box": [0.0, 0.0, 10.0, 10.0], "score": 0.9, "points": None, "scheme": None, "pose": None}
        ],
        "error": None,
    }
    assert b["photo"] == "in/b.png"
    assert [face["index"] for face in b["faces"]] == [1, 2, 3]
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (face["box"] for face in b["faces"])]
    assert areas == sorted(areas, reverse=True)
    assert gone == {
        "photo": "gone.jpg",
        "size": None,
        "faces": [],
        "error": {"code": "missing", "message": "there is no such file"},
    }
    assert again == b
    assert done.failures == ["gone.jpg: [missing] there is no such file"]


def test_landmarks_adds_points_scheme_and_pose(here: Path, photo: Write, run: Run, calls: dict[str, int]) -> None:
    photo("a.png")
    (record,) = run("landmarks", "--json", "a.png").records
    (face,) = record["faces"]
    assert (len(face["points"]), face["scheme"], face["pose"]) == (68, "ibug68", {"yaw": 3.1, "pitch": -2.0, "roll": 0.4})
    assert calls == {"detect": 1, "landmarks": 1}


def test_makeup_writes_beside_the_photo_and_looks_for_faces_once(here: Path, photo: Write, run: Run, calls: dict[str, int]) -> None:
    photo("a.png")
    done = run("makeup", "a.png", "--finish", "tint", "--json")
    (record,) = done.records
    assert (done.code, record["out"], record["skipped"], len(record["faces"])) == (0, "a.makeup.png", False, 1)
    assert is_marked("a.makeup.png")
    assert calls == {"detect": 1, "landmarks": 1, "makeup": 1}


def test_a_photo_without_faces_is_done_for_detect_and_failed_for_an_edit(here: Path, photo: Write, run: Run) -> None:
    photo("none.png", faces=0)
    photo("one.png")
    assert run("detect", "none.png").code == 0
    assert run("landmarks", "none.png", "--face", "largest").code == 0
    done = run("makeup", "--finish", "glossy", "none.png", "one.png", "--json")
    assert (done.code, [r["error"] and r["error"]["code"] for r in done.records]) == (1, ["no-face", None])
    assert done.records[0]["out"] is None
    assert "none.png: [no-face]" in done.err
    assert not Path("none.makeup.png").exists()
    assert run("makeup", "--finish", "glossy", "none.png").code == 3


def test_face_counts_from_one(here: Path, photo: Write, run: Run) -> None:
    photo("many.png", faces=30)
    photo("two.png", faces=2)
    (record,) = run("detect", "--json", "many.png", "--face", "2").records
    assert [face["index"] for face in record["faces"]] == [2]
    assert len(run("detect", "--json", "many.png").records[0]["faces"]) == 30
    done = run("makeup", "--finish", "glossy", "--face", "3", "two.png", "many.png")
    assert done.code == 1
    assert "two.png: [no-such-face]" in done.err
    for wrong in ("0", "-1", "first", "1.5", "²"):
        assert run("detect", "many.png", f"--face={wrong}").code == 2


def test_a_rerun_skips_what_is_there(here: Path, photo: Write, run: Run, calls: dict[str, int]) -> None:
    for name in "abc":
        photo(f"in/{name}.jpg")
    assert run("makeup", "in", "-o", "out", "--finish", "glazed").code == 0
    first = Path("out/a.jpg").read_bytes()
    Path("out/b.jpg").unlink()
    calls.clear()
    done = run("makeup", "in", "-o", "out", "--finish", "glossy", "--json")
    assert (done.code, calls["makeup"], [r["skipped"] for r in done.records]) == (0, 1, [True, False, True])
    assert "1 painted, 2 skipped" in done.err
    assert Path("out/a.jpg").read_bytes() == first
    done = run("makeup", "in", "-o", "out", "--finish", "glossy", "--overwrite", "--json")
    assert [r["skipped"] for r in done.records] == [False] * 3
    assert Path("out/a.jpg").read_bytes() != first


def test_results_beside_their_photos_are_not_painted_again(here: Path, photo: Write, run: Run) -> None:
    photo("in/a.jpg")
    assert run("makeup", "in", "--finish", "tint").code == 0
    done = run("makeup", "in", "--finish", "tint")
    assert (done.code, sorted(os.listdir("in"))) == (0, ["a.jpg", "a.makeup.jpg"])
    assert "1 made by visagist left out" in done.err
    assert run("makeup", "in/a.makeup.jpg", "--finish", "tint").code == 0  # named: painted
    assert Path("in/a.makeup.makeup.jpg").exists()


def test_the_tree_is_mirrored_and_an_output_folder_inside_is_not_walked(here: Path, photo: Write, run: Run) -> None:
    photo("in/a.jpg")
    photo("in/deep/b.bmp")
    photo("in/out/c.png")
    assert run("makeup", "in", "-o", "in/out", "--finish", "tint").code == 0
    found = sorted(str(p.relative_to("in/out")) for p in Path("in/out").rglob("*") if p.is_file())
    assert found == ["a.jpg", "c.png", "deep/b.png"]


def test_clashes_are_refused_before_work_starts(here: Path, photo: Write, run: Run, calls: dict[str, int]) -> None:
    photo("a/x.jpg")
    photo("b/x.jpg")
    before = {p: p.read_bytes() for p in here.rglob("*.jpg")}
    done = run("makeup", "a/x.jpg", "b/x.jpg", "-o", "out", "--finish", "tint")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "[output-clash]" in done.err
    done = run("makeup", "a/x.jpg", "-o", "a", "--finish", "tint", "--overwrite")
    assert (done.code, "[in-place]" in done.err) == (2, True)
    assert calls == {}
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


def test_in_place_replaces_the_photo_and_a_rerun_leaves_it(here: Path, photo: Write, run: Run) -> None:
    photo("in/a.png")
    photo("in/b.bmp")
    done = run("makeup", "in", "--in-place", "--finish", "tint")
    assert (done.code, is_marked("in/a.png")) == (1, True)
    assert "in/b.bmp: [in-place]" in done.err
    once = Path("in/a.png").read_bytes()
    Path("in/b.bmp").unlink()
    assert run("makeup", "in", "--in-place", "--finish", "tint").code == 0
    assert Path("in/a.png").read_bytes() == once


def test_detect_draws_copies_only_with_out(here: Path, photo: Write, run: Run) -> None:
    photo("in/a.png")
    photo("in/b.png", faces=0)
    assert run("detect", "in").code == 0
    assert sorted(os.listdir("in")) == ["a.png", "b.png"]
    done = run("detect", "in", "-o", "drawn", "--json")
    assert (done.code, sorted(os.listdir("drawn"))) == (0, ["a.png", "b.png"])
    assert all("out" not in record for record in done.records)
    copy = Photo.open("drawn/a.png")
    assert copy.history[-1].verb == "detect"
    assert not np.array_equal(copy.pixels, Photo.open("in/a.png").pixels)
    first = Path("drawn/a.png").read_bytes()
    assert len(run("detect", "in", "-o", "drawn", "--json").records[0]["faces"]) == 1  # still told, not drawn again
    assert Path("drawn/a.png").read_bytes() == first
    assert run("landmarks", "in/a.png", "-o", "points.jpg").code == 0
    assert Photo.open("points.jpg").history[-1].verb == "landmarks"


def test_tables_for_people(here: Path, photo: Write, run: Run) -> None:
    photo("a.png")
    photo("none.png", faces=0)
    rows = run("detect", "a.png", "none.png").out.splitlines()
    assert rows[0].split() == ["photo", "face", "label", "score", "left", "top", "width", "height"]
    assert rows[1].split() == ["a.png", "1", "face", "0.90", "0.0", "0.0", "20.0", "20.0"]
    assert rows[2].split() == ["none.png", "none"]
    rows = run("landmarks", "a.png", "none.png").out.splitlines()
    assert rows[1].split()[-4:] == ["ibug68", "3.1", "-2.0", "0.4"]
    assert run("makeup", "a.png", "--finish", "tint").out.splitlines()[1].split() == ["a.png", "1", "a.makeup.png"]


def test_quiet_hides_the_count_and_never_a_failure(here: Path, photo: Write, run: Run) -> None:
    photo("a.png")
    photo("b.png")
    assert run("detect", "a.png", "b.png", "--quiet").err == ""
    assert run("detect", "a.png", "gone.png", "--quiet").err == "gone.png: [missing] there is no such file\n"


def test_odd_names_go_through_and_stay_on_one_line(here: Path, photo: Write, run: Run) -> None:
    odd = ["-leading.png", "--json", "new\nline.png", "口红 💄.png", " space .png", os.fsdecode(b"caf\xe9.png"), "[a].png"]
    for name in odd:
        photo(name, format="PNG")
    done = run("detect", "--json", "--", *odd)
    assert (done.code, [record["photo"] for record in done.records]) == (0, odd)
    done = run("makeup", "--finish", "tint", "--json", "--", *odd)
    assert done.code == 0
    assert all(Path(record["out"]).exists() for record in done.records)
    done = run("detect", "--", *odd)
    assert len(done.out.splitlines()) == 1 + len(odd)
    done = run("detect", "--quiet", "--", "no\nsuch\x1b[31m.png", os.fsdecode(b"caf\xff.png"))
    assert len(done.err.splitlines()) == 2
    assert "\x1b" not in done.err


def test_numbers_that_json_does_not_know_are_null(here: Path, photo: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    bad = Face((0, 0, float("nan"), float("inf")), score=0.5)
    monkeypatch.setattr(api, "detect", lambda *a, **k: (bad,))
    (record,) = run("detect", "--json", "a.png").records
    assert record["faces"][0]["box"] == [0, 0, None, None]


def test_our_own_mistake_shows_a_traceback_and_the_rest_is_done(here: Path, photo: Write, run: Run) -> None:
    broken = Photo.of(np.full((20, 20, 3), (0, 0, 2), np.uint8))
    broken.save("broken.png")
    photo("fine.png")
    done = run("makeup", "broken.png", "fine.png", "--finish", "tint", "--json")
    assert (done.code, [r["error"] and r["error"]["code"] for r in done.records]) == (70, ["internal", None])
    assert "ZeroDivisionError" in done.err
    assert Path("fine.makeup.png").exists()


def test_what_concerns_the_whole_command_ends_it(here: Path, photo: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    for error in (WeightsError("no weights", code="missing"), UsageError("no such device", code="no-device")):

        def fail(*a: object, error: Exception = error, **k: object) -> None:
            raise error

        monkeypatch.setattr(api, "detect", fail)
        done = run("detect", "a.png", "a.png", "--json")
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)


def test_an_interrupt_keeps_what_is_finished(here: Path, photo: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        photo(f"{name}.png")
    whole = api.makeup
    monkeypatch.setattr(api, "makeup", whole)

    def stop_at_b(picture: Photo, **more: Any) -> Photo:
        if Path("a.makeup.png").exists():
            raise KeyboardInterrupt
        return whole(picture, **more)

    monkeypatch.setattr(api, "makeup", stop_at_b)
    done = run("makeup", "a.png", "b.png", "c.png", "--finish", "tint", "--json")
    assert (done.code, len(done.records)) == (130, 1)
    assert sorted(os.listdir(".")) == ["a.makeup.png", "a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect"],
        ["detekt", "a.png"],
        ["detect", "a.png", "--min-score", "1.5"],
        ["detect", "a.png", "--min-score", "nan"],
        ["detect", "a.png", "--device", "tpu"],
        ["detect", "a.png", "--sharpness", "3"],
        ["makeup", "a.png"],
        ["makeup", "a.png", "--finish", "matte"],
        ["makeup", "a.png", "--finish", "tint", "--shade", "red"],
        ["makeup", "a.png", "--finish", "tint", "--strength", "-0.1"],
        ["makeup", "a.png", "b.png", "--finish", "tint", "-o", "one.png"],
        ["train"],
        ["train", "nothing", "--data", ".", "--out", "run"],
        ["evaluate", "nothing", "--data", "."],
    ],
)
def test_wrong_usage_is_one_line_and_code_2(here: Path, photo: Write, run: Run, arguments: list[str]) -> None:
    photo("a.png")
    photo("b.png")
    done = run(*arguments)
    assert done.code == 2
    assert arguments == ["train"] or len(done.err.splitlines()) == 1
    assert sorted(os.listdir(".")) == ["a.png", "b.png"]


def test_a_colour_may_come_without_its_hash(here: Path, photo: Write, run: Run) -> None:
    photo("a.png")
    assert run("makeup", "a.png", "--finish", "tint", "--shade", "B0123a").code == 0
