"""`visagist rotate --model shading`: what is refused before work starts; whole commands on the one real portrait."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visagist import api, catalog
from visagist.apps import relighting
from visagist.apps.cli import app
from visagist.errors import FaceError, UsageError
from visagist.photo.face import Face
from visagist.photo.photo import Photo, Step, read_history

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--light", "60"], "no direction"),
        (["--light", "60,95"], "no direction"),
        (["--light", "nan,0"], "no direction"),
        (["--model", "shading"], "nothing says what to do"),
        (["--light", "60,0", "--views", "0:30:15"], "for --model morphable"),
        (["--light", "60,0", "--background", "plain"], "for --model morphable"),
        (["--light", "60,0", "--turn", "9,0,0", "--yaw", "3"], "one or the other"),
        (["--light", "60,0", "--set", "order=3"], "order is 1 or 2"),
        (["--light", "60,0", "--set", "colour=3"], "no setting"),
        (["--albedo", "a.jpg"], "written as .png"),
        (["--light", "60,0", "--mesh", "a.stl"], "written as .obj"),
        (["--light", "60,0", "--reference", "none.obj"], "[bad-reference]"),
        (["--yaw", "3", "--model", "shading", "--reference", "none.obj"], "morphable model"),
        (["--yaw", "3", "--set", "order=2"], "for --model shading"),
        (["--yaw", "3", "--model", "morphable", "--tilt", "t.png"], "for --model shading"),
    ],
)
def test_wrong_usage(here: Path, photo: Callable[..., Path], run: Run, arguments: list[str], said: str) -> None:
    photo("a.png")
    done = run("rotate", "a.png", *arguments)
    assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1


def test_maps_replace_nothing_and_belong_to_one_photo(here: Path, photo: Callable[..., Path], run: Run) -> None:
    photo("a.png"), photo("b.png")
    assert run("rotate", "a.png", "b.png", "--albedo", "c.png").code == 2
    Path("c.png").write_text("mine")
    done = run("rotate", "a.png", "--albedo", "c.png")
    assert done.code == 3 and "[exists]" in done.err and not Path("a.rotate.png").exists()


def test_references_that_are_none(here: Path, photo: Callable[..., Path], run: Run) -> None:
    photo("a.png")
    Path("f.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    for text, said in ((None, "cannot be read"), ("1 2 x", "invalid literal"), ("0 1 2", "68 numbers"), ("9 " * 68, "68 numbers")):
        if text is not None:
            Path("landmarks68.txt").write_text(text)
        done = run("rotate", "a.png", "--light", "0,0", "--reference", "f.obj")
        assert done.code == 2 and "landmarks68.txt: [bad-reference]" in done.err and said in done.err
    Path("f.obj").write_bytes(b"\xff\x00v 1 nonsense")
    done = run("rotate", "a.png", "--light", "0,0", "--reference", "f.obj")
    assert done.code == 2 and "f.obj: [bad-reference]" in done.err


def test_a_reference_with_wrong_vertices_paints_nothing(here: Path, photo: Callable[..., Path]) -> None:
    photo("a.png")
    loaded = catalog.load("morphable")
    model = loaded.recipe.model(loaded.nets)
    lines = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in model.mean] + [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in model.triangles]
    Path("f.obj").write_text("\n".join(lines))
    for vertices, said in ((range(68), "off by 0.8"), ([model.landmarks[30]] * 68, "eyes lie at one place")):
        Path("landmarks68.txt").write_text(" ".join(map(str, vertices)))
        done = CliRunner().invoke(app, ["rotate", "a.png", "--light", "0,0", "--reference", "f.obj"])
        assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
        assert "landmarks68.txt: [bad-reference] no face with 68 points" in done.stderr and not Path("a.rotate.png").exists()


def test_known_albedos_that_are_none(here: Path, photo: Callable[..., Path], run: Run) -> None:
    photo("a.png"), photo("b.png")
    Path("n.png").write_text("no picture")
    for name, said in (("none.png", "there is no such file"), ("n.png", "no known albedo")):
        done = run("rotate", "a.png", "--light", "60,0", "--known-albedo", name)
        assert done.code == 2 and f"{name}: [bad-albedo]" in done.err and said in done.err and len(done.err.splitlines()) == 1
    done = run("rotate", "a.png", "b.png", "--light", "60,0", "--known-albedo", "b.png")
    assert done.code == 2 and "of one photo" in done.err
    done = run("rotate", "a.png", "--yaw", "3", "--known-albedo", "b.png")
    assert done.code == 2 and "for --model shading" in done.err
    done = run("rotate", "a.png", "--albedo", "b.png", "--known-albedo", "b.png", "--overwrite")
    assert done.code == 2 and "[in-place]" in done.err and not Path("a.rotate.png").exists()


def test_a_photo_without_a_face_fails(here: Path, photo: Callable[..., Path], run: Run) -> None:
    photo("a.png", faces=0)
    done = run("rotate", "a.png", "--light", "60,0")
    assert done.code == 3 and "[no-face]" in done.err


def test_one_face_of_a_group_does_not_stop_the_others(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told:
        frontal = True
        found = types.SimpleNamespace(as_dict=lambda: {"scale": 1.0})

        def as_dict(self) -> dict[str, Any]:
            return {"changed_mm": {"mean": 0.5}}

    def told(recipe: Any, loaded: Any, photo: Photo, face: Face, given: Any) -> Any:
        return FaceError("it is too small", code="too-small") if face.box[0] < 10 else Told()

    monkeypatch.setattr(relighting, "_told", told)
    recipe = types.SimpleNamespace(doubts=lambda *_: ("the mouth stands wide open",))
    monkeypatch.setattr(catalog, "load", lambda *_, **__: types.SimpleNamespace(recipe=recipe, nets={}))
    monkeypatch.setattr(api, "landmarks", lambda photo, faces, **_: tuple(faces))
    boxes = [(0, 0, 8, 8), (20, 0, 28, 8)]
    monkeypatch.setattr(api, "detect", lambda photo, **_: tuple(Face(box) for box in boxes))
    monkeypatch.setattr(api, "rotate", lambda photo, **_: photo.edited(photo.pixels, Step("rotate", "shading")))
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save("a.png")
    done = run("rotate", "a.png", "--light", "60,0", "--json")
    assert done.code == 0 and "face 1 of 2 stays as it is: [too-small]" in done.err and "from the camera" in done.err
    assert "face 2 of 2: the mouth stands wide open" in done.err
    assert done.records[0]["reliefs"][0]["error"]["code"] == "too-small" and done.records[0]["fits"][0] is None
    assert done.records[0]["fits"][1] == {"scale": 1.0, "doubts": ["the mouth stands wide open"]}
    boxes.pop()
    done = run("rotate", "a.png", "--light", "60,0", "-o", "b.png")
    assert done.code == 3 and "[too-small]" in done.err and not Path("b.png").exists()


def test_the_portrait(here: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut[:300, 80:400]).save("a.png")
    names = ("depth", "normals", "albedo", "slant", "tilt")
    files = [text for name in names for text in (f"--{name}", f"{name}.png")]
    more = ["--set", "apart=45", "--set", "rounds=1", "--mesh", "relief.obj", "--json"]
    result = CliRunner().invoke(app, ["rotate", "a.png", "--light", "60,20", *files, *more])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    (relief,), (fit,) = record["reliefs"], record["fits"]
    assert len(relief["light"]) == 4 and not relief["frontal_light"] and 0 < relief["residual"] < 20 and relief["rounds"] == 1
    assert 0 < relief["changed_mm"]["mean"] < relief["changed_mm"]["largest"] <= 15 and abs(fit["pose"]["yaw"]) < 12
    lit = Photo.open("a.rotate.png")
    assert (
        lit.pixels.shape == (300, 320, 3)
        and lit.history[-1].system == "shading"
        and lit.history[-1].settings["light"] == "(60.0, 20.0)"
    )
    assert np.array_equal(lit.pixels[:8], astronaut[:8, 80:400])
    with Image.open("depth.png") as depth:
        levels = np.asarray(depth)
    known = levels > 0
    assert levels.dtype == np.uint16 and 0.05 < known.mean() < 0.3 and 5000 < levels.max() < 16000  # 5 to 16 cm
    for name in names[1:]:
        assert [step.system for step in read_history(f"{name}.png")] == ["shading"]
        shown = Photo.open(f"{name}.png").pixels
        assert shown.shape == (300, 320, 3) and not shown[~known].any()
    nose = np.argwhere(levels == levels.max())[0]
    assert 110 < nose[0] < 160 and 120 < nose[1] < 170
    lines = Path("relief.obj").read_text().splitlines()
    assert sum(line.startswith("v ") for line in lines) > 5000 and Path("relief.png").is_file()


def test_the_portrait_with_its_albedo(here: Path, astronaut: np.ndarray) -> None:
    """What `--albedo` writes is understood as `--known-albedo`; by the command and in Python."""
    portrait = np.ascontiguousarray(astronaut[:300, 80:400])
    Image.fromarray(portrait).save("a.png")
    faces, how = api.landmarks(portrait, device="cpu"), {"apart": 45, "rounds": 1, "device": "cpu"}
    (plain,) = api.relief(portrait, faces=faces, **how)
    Image.fromarray(plain.albedo_of(portrait)).save("known.png")
    command = [
        "rotate",
        "a.png",
        "--light",
        "60,20",
        "--known-albedo",
        "known.png",
        "--set",
        "apart=45",
        "--set",
        "rounds=1",
        "--json",
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    (relief,) = json.loads(result.stdout)["reliefs"]
    assert relief["residual"] < 0.8 * plain.residual  # pores, blush, brows' shadows are albedo
    lit = Photo.open("a.rotate.png")
    assert lit.history[-1].settings["known_albedo"] == "known.png"
    again = api.rotate(portrait, light=(60, 20), faces=faces, known_albedo="known.png", **how)
    assert np.abs(again.pixels.astype(int) - lit.pixels).mean() < 1 and again.history[-1].settings["known_albedo"] == "known.png"
    for albedo, error, code in ((portrait[1:], UsageError, "bad-albedo"), (0 * portrait, FaceError, "no-albedo")):
        with pytest.raises(error) as caught:
            api.relief(portrait, faces=faces, known_albedo=albedo, **how)
        assert caught.value.code == code
    Image.fromarray(portrait[1:]).save("small.png")
    Image.fromarray(0 * portrait).save("black.png")
    for name, code, said in (("small.png", 2, "[bad-albedo] the known albedo has 320 x 299"), ("black.png", 3, "[no-albedo]")):
        result = CliRunner().invoke(app, [*command[:5], name, "-o", f"of.{name}"])
        assert result.exit_code == code and said in result.stderr and not Path(f"of.{name}").exists()
