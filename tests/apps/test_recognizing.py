"""`visagist recognize`: pairs, galleries and their index, what is refused; with fakes in the place of the networks.

A photo's mean grey says who it is: the vector points in a direction that turns with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from visagist import api, catalog
from visagist.apps import gallery
from visagist.photo.face import Face
from visagist.photo.photo import Photo, Step
from visagist.recognize.likeness import Scale

Run = Callable[..., Any]
MEASURED = {"threshold": 0.5, "false_accept_rate": 0.04, "score_at_far_0.1": 0.4, "score_at_far_0.01": 0.7, "frr_at_far_0.01": 0.6}
asked: list[int] = []


def identify(photo: Photo, faces: Sequence[Face] | None = None, **more: Any) -> tuple[Face, ...]:
    asked.append(1)
    angle = float(photo.pixels[30:].mean()) / 255 * np.pi
    found = []
    for number, face in enumerate(faces or ()):
        turned = angle + number
        found.append(dataclasses.replace(face, identity=np.array([np.cos(turned), np.sin(turned)], np.float32)))
    return tuple(found)


class Row:
    def __init__(self, metric: str, value: float) -> None:
        self.metric, self.value = metric, value


class Loaded:
    """As much of `catalog.Loaded` as the command looks at."""

    file = Path("fake.safetensors")

    class system:
        name = "fake"

    class recipe:
        length = 2
        scale_of = staticmethod(Scale.of)

    class card:
        sha256 = "0" * 64
        measured = tuple(Row(*row) for row in MEASURED.items())


@pytest.fixture
def known(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(api, "identify", identify)
    monkeypatch.setattr(catalog, "load", lambda *a, **k: Loaded)
    asked.clear()
    return run


def grey(path: str, level: int, faces: int = 1) -> Path:
    """A photo of the person of this grey."""
    pixels = np.full((40, 60, 3), level, np.uint8)
    pixels[:8, :8] = (0, 0, 0) if faces == 0 else (faces, 0, 1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return Path(path)


def drawn(path: str) -> None:
    """A picture with our own mark."""
    photo = Photo.open(grey(path, 100))
    Path(path).unlink()
    photo.edited(photo.pixels, Step("rotate")).save(path)


def test_two_photos(here: Path, known: Run) -> None:
    grey("a.png", 100), grey("b.png", 102), grey("c.png", 200)
    done = known("recognize", "a.png", "b.png", "--json")
    assert done.code == 0
    (record,) = done.records
    assert record["a"] == "a.png" and record["b"] == "b.png" and record["same"] is True and record["faces"] == [1, 1]
    assert record["score"] == pytest.approx(np.cos(2 / 255 * np.pi), abs=1e-3)
    assert record["threshold"] == 0.5 and record["false_accept_rate"] == 0.04 and record["error"] is None
    (other,) = known("recognize", "a.png", "c.png", "--json").records
    assert other["same"] is False
    table = known("recognize", "a.png", "c.png")
    assert "no" in table.out.splitlines()[1].split() and "4.00%" in table.out


def test_the_same_photo_twice_scores_one(here: Path, known: Run) -> None:
    grey("a.png", 100)
    (record,) = known("recognize", "a.png", "a.png", "--json").records
    assert record["score"] == 1


def test_several_photos_are_compared_each_with_each(here: Path, known: Run) -> None:
    for name, level in (("a.png", 10), ("b.png", 80), ("c.png", 150)):
        grey(name, level)
    records = known("recognize", "a.png", "b.png", "c.png", "--json").records
    assert [(r["a"], r["b"]) for r in records] == [("a.png", "b.png"), ("a.png", "c.png"), ("b.png", "c.png")]


def test_of_several_faces_the_likest_pair_and_an_honest_rate(here: Path, known: Run) -> None:
    grey("one.png", 100), grey("two.png", 100 - round(255 / np.pi), faces=2)
    (record,) = known("recognize", "one.png", "two.png", "--json").records
    assert record["faces"] == [1, 2] and record["score"] > 0.99
    assert record["false_accept_rate"] == pytest.approx(1 - 0.96**2, abs=1e-5)
    (first,) = known("recognize", "one.png", "two.png", "--face", "1", "--json").records
    assert first["faces"] == [1, 1] and first["score"] < 0.6


def test_a_photo_without_a_face_fails_and_the_rest_is_compared(here: Path, known: Run) -> None:
    grey("a.png", 100), grey("none.png", 100, faces=0), grey("b.png", 100)
    done = known("recognize", "a.png", "none.png", "b.png", "--json")
    assert done.code == 1 and "none.png: [no-face]" in done.err
    scores = {(r["a"], r["b"]): r["score"] for r in done.records}
    assert scores["a.png", "none.png"] is None and scores["a.png", "b.png"] == 1
    assert done.records[0]["error"]["code"] == "no-face"
    assert known("recognize", "none.png", "missing.png").code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png"], "one photo alone"),
        (["drawn"], "there is no photo to compare (1 made by visagist left out)"),
        (["a.png", "b.png", "--index", "i"], "of a gallery"),
        (["a.png", "--gallery", "nowhere"], "nowhere: [empty-gallery] there is no such folder; a gallery is a folder of photos"),
        (["a.png", "--gallery", "b.png"], "this is no folder"),
        (["a.png", "--gallery", "drawn"], "every picture here (1) was made by visagist"),
        (["a.png", "--gallery", "some", "--index", "faceless"], "not a folder"),
        (["a.png", "--gallery", "empty"], "empty: [empty-gallery] there is no photo in this folder"),
        (["a.png", "--gallery", "faceless"], "no photo in the gallery shows a face"),
        (["a.png", "b.png", "--far", "0.01", "--min-score", "0.2"], "give one of them"),
        (["a.png", "b.png", "--far", "0.001"], "0.01, or give --min-score"),
        (["a.png", "b.png", "--far", "2"], "at most 1"),
        (["a.png", "b.png", "--min-score", "2"], "min-score"),
    ],
)
def test_wrong_usage(here: Path, known: Run, arguments: list[str], said: str) -> None:
    grey("a.png", 100), grey("b.png", 100), grey("faceless/a.png", 100, faces=0), Path("empty").mkdir(), grey("some/a.png", 9)
    drawn("drawn/a.png")
    done = known("recognize", *arguments)
    assert done.code == 2 and said in done.err


def test_a_strict_threshold_is_chosen_by_its_false_accept_rate(here: Path, known: Run) -> None:
    grey("a.png", 100), grey("b.png", 165)
    (record,) = known("recognize", "a.png", "b.png", "--json").records
    assert record["same"] is True
    (record,) = known("recognize", "a.png", "b.png", "--far", "0.01", "--json").records
    assert (record["same"], record["threshold"]) == (False, 0.7)
    assert (record["false_accept_rate"], record["false_reject_rate"]) == (0.01, 0.6)
    table = known("recognize", "a.png", "b.png", "--far", "0.01").out
    assert "1.00% of pairs of different people reach the threshold, 60% of pairs of one person do not" in table


def test_weights_that_were_not_measured_need_a_score(here: Path, known: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    grey("a.png", 100), grey("b.png", 150)
    monkeypatch.setattr(Loaded.card, "measured", ())
    done = known("recognize", "a.png", "b.png")
    assert done.code == 2 and "[not-measured]" in done.err and "--min-score" in done.err
    (record,) = known("recognize", "a.png", "b.png", "--min-score", "0.2", "--json").records
    assert record["same"] is True and record["false_accept_rate"] is None


def people() -> None:
    grey("people/ann/1.png", 100), grey("people/ann/2.png", 110), grey("people/bob/1.png", 180), grey("people/cid.png", 20)


def test_a_gallery_says_who_it_is(here: Path, known: Run) -> None:
    people(), grey("who.png", 104)
    done = known("recognize", "who.png", "--gallery", "people", "--json", "--top", "2")
    assert done.code == 0
    (face,) = done.records[0]["faces"]
    assert face["person"] == "ann" and [m["person"] for m in face["matches"]] == ["ann", "bob"]
    assert face["matches"][0]["photo"] == "ann/1.png"
    assert done.records[0]["false_accept_rate"] == pytest.approx(1 - 0.96**3, abs=1e-5)
    grey("stranger.png", 250)
    (face,) = known("recognize", "stranger.png", "--gallery", "people", "--json", "--min-score", "0.95").records[0]["faces"]
    assert face["person"] is None


def test_a_gallery_says_which_score_is_enough_and_how_often_that_is_wrong(here: Path, known: Run) -> None:
    people(), grey("who.png", 104)
    done = known("recognize", "who.png", "--gallery", "people", "--far", "0.01")
    assert "0.700 is enough: 2.97% of strangers are taken for one of 3 people, 60% of pairs of one person" in done.err
    assert known("recognize", "who.png", "--gallery", "people", "--quiet").err == ""


def test_a_gallery_of_one_person(here: Path, known: Run) -> None:
    grey("people/ann/1.png", 100), grey("people/ann/2.png", 110), grey("who.png", 200)
    done = known("recognize", "who.png", "--gallery", "people", "--json")
    assert done.code == 0 and "ann is the only person here and so always the nearest" in done.err
    assert done.records[0]["faces"][0]["person"] is None


def test_the_same_photo_twice_in_a_gallery_counts_once(here: Path, known: Run) -> None:
    grey("people/ann/1.png", 100), grey("people/ann/2.png", 140), grey("people/bob.png", 20), grey("who.png", 104)
    search = ("recognize", "who.png", "--gallery", "people", "--json")
    first = known(*search)
    assert "twice" not in first.err
    grey("people/ann/copy.png", 100), grey("people/ann/deep/copy.png", 100)
    again = known(*search)
    assert again.records == first.records and "2 of 5 photos are there twice and count once" in again.err
    asked.clear()
    assert known(*search).records == first.records
    assert len(asked) == 1  # the index knows the copies, too
    grey("people/bob/2.png", 100)
    assert "ann and bob have the same photo" in known(*search).err


def test_copies_with_names(here: Path, known: Run) -> None:
    people(), grey("who.png", 104), grey("two.png", 180)
    assert known("recognize", "who.png", "--gallery", "people", "-o", "named.png").code == 0
    photo, copy = Photo.open("who.png"), Photo.open("named.png")
    assert copy.size == photo.size and (copy.pixels != photo.pixels).any() and copy.history[-1].verb == "recognize"
    assert known("recognize", "who.png", "two.png", "-o", "drawn").code == 0
    assert sorted(p.name for p in Path("drawn").iterdir()) == ["two.png", "who.png"]


def test_the_index_saves_work_and_follows_the_photos(here: Path, known: Run) -> None:
    people(), grey("who.png", 104)
    search = ("recognize", "who.png", "--gallery", "people", "--json")
    known(*search)
    assert len(asked) == 5 and Path("people", gallery.INDEX).is_file()
    first = known(*search).records
    assert len(asked) == 6  # the probe alone
    grey("people/dan.png", 104)
    assert known(*search).records[0]["faces"][0]["person"] == "dan"
    assert len(asked) == 8
    Path("people/dan.png").unlink()
    assert known(*search).records == first


def test_an_index_that_is_none_is_made_anew(here: Path, known: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    people(), grey("who.png", 104)
    search = ("recognize", "who.png", "--gallery", "people", "--json")
    first = known(*search).records
    index = Path("people", gallery.INDEX)
    sound = index.read_bytes()
    for damaged in (b"", b"\x80\x04pickle", sound[:-4], sound.replace(b'\\"format\\": 1', b'\\"format\\": 7'), b"\xff" * 200):
        index.write_bytes(damaged)
        asked.clear()
        assert known(*search).records == first
        assert len(asked) == 5
        assert index.read_bytes() == sound
    monkeypatch.setattr(Loaded.card, "sha256", "1" * 64)  # other weights
    asked.clear()
    known(*search)
    assert len(asked) == 5


def test_numbers_that_are_none_are_not_believed(tmp_path: Path) -> None:
    place = tmp_path / "index.safetensors"
    for wrong in (float("inf"), float("-inf"), float("nan"), "many", [1], None):
        for stamp in (("a.png", wrong, 2), ("a.png", 1, wrong)):
            gallery.write_index(place, [stamp], np.array([[0.6, 0.8]], np.float32), "w")  # type: ignore[list-item]
            assert gallery.read_index(place, "w", 2) == {}
    gallery.write_index(place, [("a.png", 1, 2)], np.array([[np.nan, np.inf]], np.float32), "w")
    assert gallery.read_index(place, "w", 2) == {}


def test_vectors_of_wrong_length_are_not_believed(tmp_path: Path) -> None:
    place = tmp_path / "index.safetensors"
    gallery.write_index(place, [("a.png", 1, 2)], np.array([[3, 4]], np.float32), "w")
    assert gallery.read_index(place, "w", 2) == {}
    gallery.write_index(place, [("a.png", 1, 2)], np.array([[0.6, 0.8]], np.float32), "w")
    assert list(gallery.read_index(place, "w", 2)) == [("a.png", 1, 2)]
    assert gallery.read_index(place, "w", 3) == {}


def test_bad_photos_in_a_gallery_are_named_and_an_index_elsewhere(here: Path, known: Run) -> None:
    people(), grey("who.png", 104), grey("people/none.png", 5, faces=0)
    Path("people/broken.png").write_bytes(b"no picture")
    done = known("recognize", "who.png", "--gallery", "people", "--index", "elsewhere.safetensors")
    assert done.code == 0 and "none.png: [no-face]" in done.err and "broken.png: [" in done.err
    assert Path("elsewhere.safetensors").is_file() and not Path("people", gallery.INDEX).exists()


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("who.png", "in-place"),
        ("people/bob/1.png", "in-place"),
        ("people/../who.png", "in-place"),
        ("link.png", "in-place"),
        ("other.png", "exists"),
        ("notes.txt", "exists"),
        ("network.safetensors", "exists"),
        ("named/who.png", "output-clash"),
    ],
)
def test_the_index_replaces_no_file_that_is_none(here: Path, known: Run, place: str, code: str) -> None:
    people(), grey("who.png", 104), grey("other.png", 7)
    Path("notes.txt").write_text("mine"), Path("link.png").symlink_to("who.png")
    save_file({"weight": np.ones(3, np.float32)}, "network.safetensors")
    before = {path: path.read_bytes() for path in Path(".").rglob("*.*") if path.is_file()}
    search = ("recognize", "who.png", "--gallery", "people", "--index", place, "-o", "named/")
    done = known(*search)
    assert done.code == 2 and f"[{code}]" in done.err and asked == []
    assert {path: path.read_bytes() for path in Path(".").rglob("*.*") if path.is_file()} == before
    again = known(*search, "--overwrite")
    assert again.code == (0 if code == "exists" else 2)
    assert all(path.read_bytes() == kept for path, kept in before.items() if path.name != place)


def test_an_index_replaces_an_index_and_a_file_that_holds_nothing(here: Path, known: Run) -> None:
    people(), grey("who.png", 104), Path("index").touch()
    search = ("recognize", "who.png", "--gallery", "people", "--index", "index")
    assert known(*search).code == 0 and gallery.is_index(Path("index"))
    grey("people/dan.png", 104)
    assert known(*search).code == 0
    assert len(gallery.read_index(Path("index"), "0" * 64, 2)) == 5


def test_pictures_made_by_visagist_are_left_out_and_counted(here: Path, known: Run) -> None:
    people(), grey("who.png", 104), drawn("people/ann/turned.png")
    done = known("recognize", "who.png", "--gallery", "people")
    assert done.code == 0 and "people: 1 made by visagist left out" in done.err
    for path in Path("people").rglob("*.png"):
        if path.name != "turned.png":
            grey(str(path), 5, faces=0)
    assert "and 1 made by visagist are left out" in known("recognize", "who.png", "--gallery", "people").err


def test_a_stopped_search_keeps_what_was_looked_at(here: Path, known: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    people(), grey("who.png", 104), grey("people/ann/0.png", 90)
    search = ("recognize", "who.png", "--gallery", "people", "--json")
    first = known(*search).records
    index = Path("people", gallery.INDEX)
    grey("people/ann/0.png", 91), grey("people/ann/1.png", 101)  # two that the index does not know, the first of five

    def stopped(photo: Photo, faces: Sequence[Face] | None = None, **more: Any) -> tuple[Face, ...]:
        if len(asked) == 1:
            raise KeyboardInterrupt
        return identify(photo, faces)

    asked.clear()
    monkeypatch.setattr(api, "identify", stopped)
    assert known(*search).code == 130
    assert len(gallery.read_index(index, "0" * 64, 2)) == 6  # what it knew before, and the one
    asked.clear()
    monkeypatch.setattr(api, "identify", identify)
    assert known(*search).code == 0 and len(asked) == 2  # the other, and the probe
    assert len(gallery.read_index(index, "0" * 64, 2)) == 5
    assert first[0]["faces"][0]["person"] == "ann"


def test_a_long_search_keeps_what_it_has_meanwhile(here: Path, known: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    people(), grey("who.png", 104)
    sizes: list[int] = []
    monkeypatch.setattr(gallery, "EVERY", 0.0)
    monkeypatch.setattr(gallery, "write_index", lambda place, stamps, *more: sizes.append(len(stamps)))
    assert known("recognize", "who.png", "--gallery", "people").code == 0
    assert sizes == [1, 2, 3, 4, 4]
