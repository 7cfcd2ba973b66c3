"""`visagist rotate`: what is refused before work starts; a whole command on the one real portrait with the bundled weights."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visagist import api, catalog
from visagist.apps import upright
from visagist.apps.cli import app
from visagist.errors import FaceError, UsageError
from visagist.photo.face import Face
from visagist.photo.photo import Photo, Step

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing says how to turn"),
        (["--turn", "1,2"], "not three numbers"),
        (["--turn", "1,2,nan"], "not three numbers"),
        (["--turn", "9,0,0", "--yaw", "3"], "one or the other"),
        (["--views", "-45:45:0"], "no row"),
        (["--views", "0:9000:1"], "no row"),
        (["--views", "0:30:15", "--yaw", "3"], "gives the yaws itself"),
        (["--yaw", "3", "--film", "f.gif"], "several views"),
        (["--yaw", "3", "--mesh", "head.stl"], "written as .obj, .ply, .glb"),
        (["--yaw", "3", "--depth", "depth.jpg"], "depth is written as .png"),
        (["--views", "0:30:15", "--normals", "n.png"], "one view"),
        (["--expression", "smile"], "no expression"),
        (["--expression", "jawOpen=1e300"], "from -2 to 2"),
        (["--expression", "jawOpen=-2.1"], "from -2 to 2"),
        (["--skin", "own"], "nothing says how to turn"),
        (["--skin", "own", "--light", "60,0"], "for --model morphable"),
    ],
)
def test_wrong_usage(here: Path, photo: Callable[..., Path], run: Run, arguments: list[str], said: str) -> None:
    photo("a.png")
    done = run("rotate", "a.png", *arguments)
    assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1


def test_a_mesh_replaces_nothing_and_belongs_to_one_photo(here: Path, photo: Callable[..., Path], run: Run) -> None:
    photo("a.png"), photo("b.png")
    assert run("rotate", "a.png", "b.png", "--yaw", "3", "--mesh", "m.obj").code == 2
    Path("m.mtl").write_text("mine")
    done = run("rotate", "a.png", "--yaw", "3", "--mesh", "m.obj")
    assert done.code == 3 and "[exists]" in done.err and not Path("a.rotate.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--depth", "me.png"],
        ["--normals", "./me.png"],
        ["--depth", "link.png"],
        ["--mesh", "me.obj"],  # whose texture is me.png
        ["--views", "0:10:10", "--film", "film.webp"],
        ["--albedo", "me.png"],
        ["--slant", "sub/../me.png"],
        ["--tilt", "me.png"],
        ["--mesh", "me.obj", "--light", "60,0"],
        ["--depth", "me.rotate.png"],  # the result
        ["--depth", "d.png", "--normals", "./d.png"],
        ["--depth", "head.png", "--mesh", "head.obj"],
        ["--mesh", "f.obj", "--light", "9,9", "--reference", "f.obj"],
    ],
)
def test_no_photo_is_replaced_by_what_is_written_beside_it(
    here: Path, photo: Callable[..., Path], run: Run, calls: dict[str, int], options: list[str]
) -> None:
    photo("me.png"), photo("film.webp")
    os.symlink("me.png", "link.png")
    Path("sub").mkdir()
    Path("f.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    Path("landmarks68.txt").write_text("0 1 2 " * 22 + "0 1")
    before = {path: path.read_bytes() for path in here.glob("*.*")}
    given = "film.webp" if "--film" in options else "me.png"
    turn = [] if {"--views", "--light"} & set(options) else ["--turn", "5,0,0"]
    done = run("rotate", given, *turn, *options, "--overwrite")
    assert done.code == 2 and ("[in-place]" in done.err or "[output-clash]" in done.err), done.err
    assert not calls and {path: path.read_bytes() for path in here.glob("*.*")} == before


def test_one_face_of_a_group_does_not_stop_the_others(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Turned:
        angle, extrapolated, visible, found, to = 5.0, False, 1.0, None, None

        def as_dict(self) -> dict[str, Any]:
            return {"pose": {"yaw": 0.0}, "angle": self.angle, "turned_to": {}, "visible": 1.0, "extrapolated": False}

    def turns(nets: Any, faces: Any, **_: Any) -> Any:
        if faces[0].box[0] < 10:
            raise FaceError("no head fits the points", code="no-fit")
        return (Turned(),)

    turned: list[Any] = []

    def rotate(photo: Photo, *, faces: Any, **_: Any) -> Photo:
        turned.append(faces)
        return photo.edited(photo.pixels, Step("rotate", "morphable"))

    recipe = types.SimpleNamespace(turns=turns, doubts=lambda *_: ("the mouth stands wide open",))
    loaded = types.SimpleNamespace(recipe=recipe, nets={})
    monkeypatch.setattr(catalog, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(api, "landmarks", lambda photo, faces, **_: tuple(faces))
    monkeypatch.setattr(api, "rotate", rotate)
    boxes = [(0, 0, 8, 8), (20, 0, 28, 8)]
    monkeypatch.setattr(api, "detect", lambda photo, **_: tuple(Face(box) for box in boxes))
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save("a.png")
    done = run("rotate", "a.png", "--turn", "5,0,0", "--json")
    assert done.code == 0 and "face 1 of 2 stays as it is: [no-fit]" in done.err and [one.box for one in turned[0]] == boxes[1:]
    failed, fit = done.records[0]["fits"]
    assert failed["error"]["code"] == "no-fit" and fit["angle"] == 5.0
    assert fit["doubts"] == ["the mouth stands wide open"] and "face 2 of 2: the mouth stands wide open" in done.err
    done = run("rotate", "a.png", "--views", "0:10:5", "-o", "c.png")
    assert done.code == 0 and "-" in done.out and "stays as it is" in done.err
    boxes.pop()
    done = run("rotate", "a.png", "--turn", "5,0,0", "-o", "b.png")
    assert done.code == 3 and "[no-fit]" in done.err and not Path("b.png").exists()


def test_a_system_that_turns_nothing(here: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut[:260, 90:370]).save("a.png")
    result = CliRunner().invoke(app, ["rotate", "a.png", "--yaw", "3", "--model", "texture"])
    assert result.exit_code == 2 and "[wrong-verb]" in result.stderr
    assert not Path("a.rotate.png").exists()


def test_a_photo_without_a_face_fails(here: Path, photo: Callable[..., Path], run: Run) -> None:
    photo("a.png", faces=0)
    done = run("rotate", "a.png", "--yaw", "3")
    assert done.code == 3 and "[no-face]" in done.err


def test_the_portrait(here: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut).save("a.png")
    result = CliRunner().invoke(app, ["rotate", "a.png", "--turn", "20,0,0", "--json", "--mesh", "head.obj"])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    (fit,) = record["fits"]
    assert record["out"] == "a.rotate.png" and not record["skipped"]
    assert abs(fit["pose"]["yaw"]) < 8 and abs(fit["pose"]["roll"]) < 8 and fit["error"] < 0.08
    assert len(fit["identity"]) == 40 and len(fit["expression"]) == 20 and np.shape(fit["turn"]) == (3, 3)
    turned = Photo.open("a.rotate.png")
    assert turned.pixels.shape == astronaut.shape and turned.history[-1].system == "morphable"
    assert np.array_equal(turned.pixels[400:], astronaut[400:])  # far below the head
    step, card = turned.history[-1], catalog.load("texture").card
    assert step.settings["texture"] == card.sha256[:12] and not card.commercial_use
    lines = Path("head.obj").read_text().splitlines()
    assert [sum(line.startswith(kind) for line in lines) for kind in ("v ", "vt ", "f ")] == [6706, 6706, 13120]
    assert "map_Kd head.png" in Path("head.mtl").read_text() and Path("head.png").is_file()


def test_maps_meshes_and_a_remark(here: Path, astronaut: np.ndarray) -> None:
    """One command: a far turn is remarked on, depth and normals are of the result, a mesh needs one file."""
    Image.fromarray(astronaut[:260, 90:370]).save("a.png")
    files = ["--depth", "d.png", "--normals", "n.png", "--mesh", "head.glb", "--background", "plain"]
    result = CliRunner().invoke(app, ["rotate", "a.png", "--turn", "50,0,0", "--json", *files])
    assert result.exit_code == 0, result.stderr
    (fit,) = json.loads(result.stdout)["fits"]
    assert fit["extrapolated"] and 0.3 < fit["visible"] < 0.9 and abs(fit["angle"] - 50) < 3
    assert abs(fit["turned_to"]["yaw"] - fit["pose"]["yaw"] - 50) < 0.1
    assert "a.png: turned by" in result.stderr and "guessed" in result.stderr
    turned = Photo.open("a.rotate.png").pixels
    with Image.open("d.png") as depth, Image.open("n.png") as normals:
        near, pointing = np.asarray(depth), np.asarray(normals)
    there = near > 0
    assert near.dtype == np.uint16 and near.shape == turned.shape[:2] == pointing.shape[:2]
    assert (turned[~there] == 216).mean() > 0.97 and np.median(pointing[there][:, 2]) > 170
    assert pointing[there][:, 0].mean() > 132  # the face looks to the right
    assert Path("head.glb").read_bytes()[:4] == b"glTF"
    quiet = CliRunner().invoke(app, ["rotate", "a.png", "--turn", "50,0,0", "--quiet", "-o", "b.png", "--mesh", "head.ply"])
    assert quiet.exit_code == 0 and quiet.stderr == "" and Path("head.ply").read_bytes().startswith(b"ply")


def test_vertices_that_the_photo_hides_are_skin_in_a_ply(here: Path, astronaut: np.ndarray) -> None:
    """Of a face turned to the side, whose far cheek falls on what is behind it: painted green here."""
    Image.fromarray(astronaut[:260, 90:370]).save("a.png")
    assert (
        CliRunner().invoke(app, ["rotate", "a.png", "--turn", "40,0,0", "-o", "side.png", "--background", "plain"]).exit_code == 0
    )
    pixels = Photo.open("side.png").pixels.copy()
    pixels[(pixels == 216).all(2)] = 0, 255, 0
    Image.fromarray(pixels).save("green.png")
    green = []
    for skin in ("own", "learnt"):
        done = CliRunner().invoke(app, ["rotate", "green.png", "--turn", "0,0,0", "--overwrite", "--skin", skin, "--mesh", "m.ply"])
        assert done.exit_code == 0, done.stderr
        head, body = Path("m.ply").read_bytes().split(b"end_header\n", 1)
        count = int(head.split(b"element vertex ")[1].split()[0])
        rows = np.frombuffer(body, np.dtype([("at", "<f4", 3), ("colour", "u1", 3)]), count)
        colour = rows["colour"].astype(int)
        green.append(int((colour[:, 1] > colour[:, 0] + 60).sum()))
    assert green[1] < 0.3 * green[0]


def test_skin_of_the_photo_alone_needs_no_learnt_colours(
    here: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = catalog.load

    def without(name: str, *more: Any, **named: Any) -> Any:
        assert name != "texture", "weights learnt from portraits are loaded"
        return load(name, *more, **named)

    monkeypatch.setattr(catalog, "load", without)
    Image.fromarray(astronaut[:260, 90:370]).save("a.png")
    result = CliRunner().invoke(app, ["rotate", "a.png", "--turn", "25,0,0", "--skin", "own"])
    assert result.exit_code == 0, result.stderr
    assert Photo.open("a.rotate.png").history[-1].settings["texture"] is None
    with pytest.raises(UsageError, match="skin"):
        api.rotate(Photo.open("a.png"), turn=(5, 0, 0), skin="pink")


def test_a_photo_that_lies_on_its_side_is_told_of(here: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned by quarters, the face is found less surely, and points are found that fit a head all the same."""
    upright_photo = astronaut[:260, 90:370]
    for quarters, way in ((0, None), (1, "a quarter to the right"), (2, "half round"), (3, "a quarter to the left")):
        photo = Photo.of(np.ascontiguousarray(np.rot90(upright_photo, quarters)))
        assert upright.lying(photo, api.detect(photo, min_score=0.3)) == way
    for name, pixels in (("a.png", upright_photo), ("b.png", np.rot90(upright_photo, 3))):
        Image.fromarray(np.ascontiguousarray(pixels)).save(name)
    sure = api.detect("a.png")
    monkeypatch.setattr(api, "detect", lambda photo, **_: sure if photo.pixels.shape[:2] == (260, 280) else ())
    result = CliRunner().invoke(app, ["rotate", "b.png", "--yaw", "9"])
    assert result.exit_code == 3 and "[no-face]" in result.stderr and "turned a quarter to the left: do that first" in result.stderr


def test_a_side_is_told_of_beside_the_result(here: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(astronaut[:260, 90:370]).save("a.png")
    quiet = CliRunner().invoke(app, ["rotate", "a.png", "--yaw", "9"])
    assert quiet.exit_code == 0 and "side" not in quiet.stderr
    monkeypatch.setattr(upright, "lying", lambda *_: "half round")
    told = CliRunner().invoke(app, ["rotate", "a.png", "--yaw", "9", "--overwrite"])
    assert told.exit_code == 0 and "a.png: the photo seems to lie on its side" in told.stderr and "turned half round" in told.stderr

    def no_fit(*_: Any, **__: Any) -> Any:
        raise FaceError("no head fits the points", code="no-fit", hint="is it a face in full view?")

    monkeypatch.setattr(type(catalog.load("morphable").recipe), "turns", no_fit)
    failed = CliRunner().invoke(app, ["rotate", "a.png", "--yaw", "9", "--overwrite"])
    assert failed.exit_code == 3 and "[no-fit] no head fits the points; turn the photo half round first" in failed.stderr


def test_views(here: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut[:260, 90:370]).save("a.png")
    result = CliRunner().invoke(app, ["rotate", "a.png", "--views", "-15:15:15", "--film", "f.gif", "-o", "sheet.png"])
    assert result.exit_code == 0, result.stderr
    sheet = Photo.open("sheet.png")
    assert sheet.size[1] > 2.5 * sheet.size[0] * 0.8 and sheet.history[-1].settings["views"] == "-15 0 15"
    with Image.open("f.gif") as film:
        assert getattr(film, "n_frames", 1) == 4
