"""What cannot be written or done is said before any photo is opened; files beside a result say what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visagist import catalog
from visagist.apps import beside, meshes
from visagist.apps.batch import Job
from visagist.errors import OutputError
from visagist.head.mesh import Mesh
from visagist.photo.photo import Photo, is_marked, read_history

Run = Callable[..., Any]
Write = Callable[..., Path]


@pytest.mark.parametrize("name", ["x.bmp", "x.dib", "x.gif", "x.mkv"])
@pytest.mark.parametrize("command", [("makeup", "--finish", "glazed"), ("detect",), ("rotate", "--turn", "5,0,0")])
def test_a_picture_of_an_ending_that_is_not_written(
    here: Path, run: Run, photo: Write, calls: dict[str, int], command: tuple[str, ...], name: str
) -> None:
    photo("a.png")
    done = run(command[0], "a.png", *command[1:], "-o", name)
    assert done.code == 2 and f"{name}: [usage] pictures cannot be written as {Path(name).suffix}; " in done.err
    assert not calls and not Path(name).exists()
    Path(name).write_text("mine")
    assert run(command[0], "a.png", *command[1:], "-o", name, "--overwrite").code == 2
    assert Path(name).read_text() == "mine"


def test_a_file_without_an_ending_is_no_folder(here: Path, run: Run, photo: Write) -> None:
    photo("a.png"), Path("there").write_text("mine")
    done = run("makeup", "a.png", "--finish", "glazed", "-o", "there")
    assert done.code == 2 and "a file without the ending of a picture" in done.err


@pytest.mark.parametrize("command", [("rotate", "--views", "0:10:10"), ("stylize", "-s", "b.png", "--model", "gatys")])
@pytest.mark.parametrize("name", ["x.mkv", "x"])
def test_a_film_of_an_ending_that_is_not_written(
    here: Path, run: Run, photo: Write, calls: dict[str, int], command: tuple[str, ...], name: str
) -> None:
    photo("a.png"), photo("b.png")
    done = run(command[0], "a.png", *command[1:], "--film", name)
    assert done.code == 2 and f"{name}: [usage] films are written as .gif, .webp, .mp4, .avi" in done.err
    assert not calls and len(list(here.iterdir())) == 2


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("rotate", "--turn", "5,0,0", "--model", "tp-gan"), "[unknown-system]"),
        (("rotate", "--turn", "5,0,0", "--model", "yolo"), "[wrong-verb]"),
        (("rotate", "--turn", "5,0,0", "--model", "./nowhere"), "[missing]"),
        (("stylize", "-s", "starry-night", "--model", "tp-gan"), "[unknown-system]"),
        (("stylize", "-s", "starry-night", "--model", "yolo"), "[wrong-verb]"),
        (("stylize", "-s", "b.png", "--features", "vgg19"), "[missing]"),
        (("stylize", "-s", "b.png", "--features", "nothing"), "[unknown-system]"),
    ],
)
def test_a_model_that_is_none_is_told_also_where_the_result_is_there(
    here: Path, run: Run, photo: Write, calls: dict[str, int], command: tuple[str, ...], said: str, there: bool
) -> None:
    photo("a.png"), photo("b.png")
    if there:
        photo(f"a.{command[0]}.png")
    done = run(command[0], "a.png", *command[1:])
    assert done.code == 2 and said in done.err and not calls


def test_bundled_models_are_known_without_their_networks() -> None:
    for row in catalog.SYSTEMS.values():
        for name in row.files:
            catalog.check(name, row.verb)
    with pytest.raises(Exception, match="a system for detect, not for rotate"):
        catalog.check("yolo", "rotate")


def test_folders_of_files_beside_a_result_are_made_or_named(here: Path) -> None:
    job = Job("a.png", "a.png", out="out.png")
    beside.guard([job], {"mesh": meshes.files("new/deep/head.obj"), "depth": ["new/d.png"]})
    assert Path("new", "deep").is_dir()
    Path("file").write_text("mine")
    with pytest.raises(OutputError) as told:
        beside.guard([job], {"mesh": meshes.files("file/head.obj")})
    assert told.value.code == "unwritable" and told.value.path == "file" and "--mesh" in told.value.hint


@pytest.mark.parametrize("came", ["a.png", "a.jpg"])
def test_the_texture_of_a_mesh_says_what_it_is(here: Path, photo: Write, came: str) -> None:
    mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]), np.zeros((3, 2)))
    source = Photo.open(photo(came))
    meshes.write("head.obj", mesh, source, overwrite=False)
    assert (Photo.open("head.png").pixels == source.pixels).all()
    assert is_marked("head.png") and not is_marked(came)  # so that a walk through the folder leaves it alone
    (step,) = read_history("head.png")
    assert (step.verb, step.settings, step.source_type) == ("rotate", {"texture_of": "head.obj"}, "algorithmicallyEnhanced")
    meshes.write("head.glb", mesh, source, overwrite=False)
    assert b"urn:visagist:steps" in Path("head.glb").read_bytes()


@pytest.mark.parametrize("command", [("makeup", "--finish", "glazed"), ("rotate", "--turn", "5,0,0"), ("detect", "--face", "1")])
def test_a_photo_without_a_face_advises_what_every_verb_can_do(
    here: Path, run: Run, photo: Write, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo("none.png", faces=0)
    done = run(command[0], "none.png", *command[1:], "--json")
    message = json.loads(done.out)["error"]
    assert done.code == 3 and message["code"] == "no-face" and "--" not in message["message"] and "turn" in message["message"]
