from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagist.apps import batch
from visagist.apps.batch import Job, Tally
from visagist.errors import FaceError, OutputError, UsageError
from visagist.photo.photo import Photo, Step

Write = Callable[..., Path]


def found(given: list[str]) -> list[str]:
    return [job.name for job in batch.collect(given)[0]]


def codes(given: list[str]) -> list[str | None]:
    return [None if job.error is None else job.error.code for job in batch.collect(given)[0]]


def test_files_in_the_order_given_and_folders_sorted(here: Path, photo: Write) -> None:
    for name in ("z.png", "in/b.png", "in/a.jpg", "in/sub/c.png"):
        photo(name)
    assert found(["z.png", "in"]) == ["z.png", "in/a.jpg", "in/b.png", "in/sub/c.png"]
    assert found(["in/", "z.png"]) == ["in/a.jpg", "in/b.png", "in/sub/c.png", "z.png"]


def test_a_walk_takes_pictures_by_content_or_by_name_and_nothing_else(here: Path, photo: Write) -> None:
    photo("in/without_ending", format="PNG")
    photo("in/.hidden.jpg")
    photo("in/.folder/a.jpg")
    Path("in/notes.txt").write_text("no photo")
    Path("in/text.jpg").write_text("no photo, but it says so")
    assert found(["in"]) == ["in/text.jpg", "in/without_ending"]


def test_what_carries_our_mark_is_left_out_unless_named(here: Path, photo: Write) -> None:
    source = Photo.open(photo("in/a.png"))
    source.edited(source.pixels, Step("makeup")).save("in/a.makeup.png")
    jobs, marked = batch.collect(["in"])
    assert ([job.name for job in jobs], marked) == (["in/a.png"], 1)
    assert batch.collect(["in/*.png"])[1] == 1
    assert batch.collect(["in/a.makeup.png"])[1] == 0


def test_patterns_that_the_shell_left_alone(here: Path, photo: Write) -> None:
    for name in ("b.png", "a.png", "in/deep/c.png", "x[1].png"):
        photo(name)
    Path("a.txt").write_text("no photo")
    assert found(["[ab].png"]) == ["a.png", "b.png"]
    assert found(["**/c.png"]) == ["in/deep/c.png"]
    assert found(["i*"]) == ["in/deep/c.png"]
    assert found(["a*"]) == ["a.png"]
    assert found(["x[1].png"]) == ["x[1].png"]  # a file of that very name wins
    assert codes(["n*.png", "*.txt"]) == ["missing", None]


def test_names_that_mean_no_file_are_failed_photos(here: Path, photo: Write) -> None:
    os.mkfifo("pipe")
    Path("empty").mkdir()
    Path("broken").symlink_to("nowhere")
    given = ["nothing.jpg", "", "pipe", "empty", "broken", "nul\0byte", "x" * 300]
    assert codes(given) == ["missing"] * len(given)


def test_odd_names_are_taken_as_they_are(here: Path, photo: Write) -> None:
    odd = ["-leading.png", "new\nline.png", "口红 💄.png", os.fsdecode(b"caf\xe9.png")]
    for name in odd:
        photo(Path("in") / name)
    assert sorted(found(["in"])) == sorted(os.path.join("in", name) for name in odd)
    assert codes(["in"]) == [None] * 4


def test_the_output_folder_is_not_walked_into(here: Path, photo: Write) -> None:
    photo("in/a.png")
    photo("in/out/a.png")
    assert [job.name for job in batch.collect(["in"], outside="in/out")[0]] == ["in/a.png"]


def job(name: str, format: str = "JPEG", relative: str | None = None) -> Job:
    return Job(name, os.path.basename(name) if relative is None else relative, format=format)


def outs(jobs: list[Job], given: list[str], **how: object) -> list[str | None]:
    return [job.out for job in batch.plan(jobs, "makeup", given, **how)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "format", "out"),
    [
        ("in/a.jpg", "JPEG", "in/a.makeup.jpg"),
        ("a.JPG", "JPEG", "a.makeup.JPG"),
        ("a.jpeg", "JPEG", "a.makeup.jpeg"),
        ("a.jpg", "PNG", "a.makeup.png"),  # the content decides
        ("a.bmp", "BMP", "a.makeup.png"),  # BMP holds no metadata
        ("a", "TIFF", "a.makeup.tif"),
        ("holiday.2019", "JPEG", "holiday.2019.makeup.jpg"),
        ("in.d/a", "WEBP", "in.d/a.makeup.webp"),
        (".jpg", "JPEG", ".jpg.makeup.jpg"),
        ("a.jpg", "", "a.makeup.jpg"),  # no photo at all: it will fail when it is opened
    ],
)
def test_results_beside_the_photo(name: str, format: str, out: str) -> None:
    assert outs([job(name, format)], [name]) == [out]


def test_results_in_a_folder_mirror_the_tree(here: Path) -> None:
    jobs = [job("in/a.jpg", relative="a.jpg"), job("in/sub/a.bmp", "BMP", relative="sub/a.bmp"), job("else/b.png", "PNG")]
    assert outs(jobs, ["in", "else/b.png"], out="out") == ["out/a.jpg", "out/sub/a.png", "out/b.png"]


def test_out_may_be_a_file_for_one_photo(here: Path) -> None:
    Path("folder").mkdir()
    Path("v1.2").mkdir()
    one = [job("in/a.jpg")]
    assert outs(one, ["in/a.jpg"], out="result.png") == ["result.png"]
    assert outs(one, ["in/a.jpg"], out="folder") == ["folder/a.jpg"]
    assert outs(one, ["in/a.jpg"], out="v1.2") == ["v1.2/a.jpg"]
    assert outs(one, ["in/a.jpg"], out="new") == ["new/a.jpg"]
    assert outs(one, ["in/a.jpg"], out="v1.3/") == ["v1.3/a.jpg"]
    Path("in").mkdir()
    for out, names in (("x.gif", ["in/a.jpg"]), ("x.png", ["in"]), ("x.jpg", ["in/a.jpg", "b.jpg"])):
        with pytest.raises(UsageError):
            outs(one if len(names) == 1 else [*one, job("b.jpg")], names, out=out)


@pytest.mark.parametrize(
    ("jobs", "out"),
    [
        ([job("a/x.jpg"), job("b/x.jpg")], "out"),
        ([job("a/x.bmp", "BMP"), job("a/x.png", "PNG")], None),
        ([job("x.jpg"), job("./x.jpg")], None),
    ],
)
def test_two_photos_with_one_result_are_refused(here: Path, jobs: list[Job], out: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        outs(jobs, [one.name for one in jobs], out=out)
    assert refused.value.code == "output-clash"
    assert all(os.path.basename(one.name) in str(refused.value) for one in jobs)


def test_links_to_one_folder_are_one_place(here: Path) -> None:
    Path("a").mkdir()
    Path("b").symlink_to("a")
    with pytest.raises(UsageError):
        outs([job("a/x.jpg"), job("b/x.jpg")], ["a/x.jpg", "b/x.jpg"])


def test_replacing_the_photo_needs_in_place(here: Path, photo: Write) -> None:
    photo("in/a.jpg")
    jobs = [job("in/a.jpg")]
    for out in ("in", "in/a.jpg"):
        with pytest.raises(UsageError) as refused:
            outs(jobs, ["in/a.jpg"], out=out, overwrite=True)
        assert refused.value.code == "in-place"
        (planned,) = batch.plan(jobs, "makeup", ["in/a.jpg"], out=out, in_place=True)
        assert planned.in_place
    (planned,) = batch.plan(jobs, "makeup", ["in/a.jpg"], in_place=True)
    assert (planned.out, planned.in_place) == ("in/a.jpg", True)
    assert not batch.is_there(planned, overwrite=False)


def test_in_place_keeps_name_and_format_together(here: Path) -> None:
    (planned,) = batch.plan([job("a.bmp", "BMP")], "makeup", ["a.bmp"], in_place=True)
    assert planned.error is not None
    assert planned.error.code == "in-place"


def test_a_result_never_replaces_another_photo_of_the_batch(here: Path) -> None:
    jobs = [job("a.jpg"), job("a.makeup.jpg")]
    assert outs(jobs, ["a.jpg", "a.makeup.jpg"]) == ["a.makeup.jpg", "a.makeup.makeup.jpg"]  # the first is there and skipped
    with pytest.raises(UsageError) as refused:
        outs(jobs, ["a.jpg", "a.makeup.jpg"], overwrite=True)
    assert refused.value.code == "in-place"


NAMES = st.lists(
    st.tuples(
        st.sampled_from(["", "in/", "in/sub/"]), st.sampled_from("abc"), st.sampled_from([".jpg", ".JPG", ".png", ".bmp", ""])
    ),
    min_size=1,
    max_size=5,
)


@given(NAMES, st.sampled_from([None, "out"]), st.sampled_from(["JPEG", "PNG", "BMP"]))
def test_results_are_different_or_refused_and_never_a_photo(
    parts: list[tuple[str, str, str]], out: str | None, format: str
) -> None:
    given = ["".join(part) for part in parts]
    jobs = [job(name, format) for name in given]
    try:
        planned = outs(jobs, given, out=out)
    except UsageError:
        return
    assert len(set(planned)) == len(planned)
    assert not set(planned) & set(given)


@pytest.mark.parametrize(
    ("tally", "code"),
    [
        (Tally(), 0),
        (Tally(done=2), 0),
        (Tally(skipped=2), 0),
        (Tally(marked=3), 0),
        (Tally(done=1, failed=1), 1),
        (Tally(skipped=1, failed=1), 1),
        (Tally(failed=2), 3),
        (Tally(done=5, failed=1, bugs=1), 70),
    ],
)
def test_exit_codes(tally: Tally, code: int) -> None:
    assert tally.exit_code == code


def test_one_failure_never_stops_the_rest() -> None:
    told: list[tuple[str, str]] = []
    tally = Tally()

    def do(one: Job) -> str | None:
        if one.name == "there":
            return None
        if one.name in errors:
            raise errors[one.name]
        return "done"

    errors: dict[str, BaseException] = {
        "face": FaceError("no face", code="no-face"),
        "disk": OutputError("full", code="unwritable", path="out/disk"),
        "bug": ZeroDivisionError(),
        "big": MemoryError(),
        "net": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    }
    batch.work_through(
        [Job(name, name) for name in ("face", "disk", "bug", "big", "net", "there", "fine")],
        do,
        done=lambda one, result: told.append((one.name, str(result))),
        failed=lambda one, error: told.append((str(error.path), error.code)),
        broken=lambda one, error: told.append((one.name, "bug")),
        tally=tally,
    )
    assert told == [
        ("face", "no-face"),
        ("out/disk", "unwritable"),
        ("bug", "bug"),
        ("big", "too-large"),
        ("net", "too-large"),
        ("there", "None"),
        ("fine", "done"),
    ]
    assert (tally.done, tally.skipped, tally.failed, tally.bugs) == (1, 1, 5, 1)


def test_what_ends_the_command_goes_through() -> None:
    def do(one: Job) -> None:
        raise UsageError("no such model", code="unknown-system")

    with pytest.raises(UsageError):
        batch.work_through([Job("a", "a")], do, done=print, failed=print, broken=print, tally=Tally())
