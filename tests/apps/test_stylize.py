"""`visagist stylize` with a small network of random weights: picture, sidecar, mark, films, interrupts, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner

from visagist import catalog
from visagist.apps.cli import app
from visagist.photo.photo import Photo, read_history
from visagist.stylize.brought import FeatureNetwork
from visagist.weights import store


class Outcome:
    def __init__(self, *arguments: object) -> None:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr


QUICK = ("--features", "net.safetensors", "--size", "48", "--iterations", "2", "--guard", "0")


def stylize(*arguments: object, quick: bool = True) -> Outcome:
    return Outcome("stylize", *arguments, *(QUICK if quick else ()))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo, a painting and weights of SqueezeNet that nobody trained; and the current one."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(skimage.data.chelsea()[::2, ::2]).save("cat.jpg", quality=95)
    Image.fromarray(skimage.data.coffee()[::3, ::3]).save("coffee.png")
    recipe = FeatureNetwork(network="squeezenet1_1")
    torch.manual_seed(0)
    store.save(
        "net.safetensors", store.state(recipe.networks()), system="features", input="RGB", paper="none", command="none",
        settings=catalog.settings_of(recipe, "squeezenet1_1"), commercial_use=True, trained_on=[],
    )  # fmt: skip
    return tmp_path


def test_a_photo_a_painting_and_what_is_written_beside(here: Path) -> None:
    done = stylize("cat.jpg", "--style", "coffee.png", "--ratio", "500", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert (record["out"], record["sidecar"], record["skipped"]) == ("cat.stylize.jpg", "cat.stylize.jpg.json", False)
    assert record["loss"] > 0
    with Image.open("cat.stylize.jpg") as made:
        assert max(made.size) >= 48
    (step,) = read_history("cat.stylize.jpg")
    card = store.read("net.safetensors")[1]
    assert (step.verb, step.system, step.weights) == ("stylize", "gatys", card.sha256[:12])
    assert step.settings["style"] == "coffee.png"
    assert step.settings["ratio"] == 500
    said = json.loads(Path("cat.stylize.jpg.json").read_text())
    assert said["weights"]["sha256"] == card.sha256
    assert said["weights"]["settings"]["network"] == "squeezenet1_1"
    assert (said["settings"]["ratio"], said["settings"]["iterations"], said["settings"]["init"]) == (500, 2, "content")
    assert said["styles"] == ["coffee.png"]
    assert said["seconds"] > 0
    assert not said["stopped"]
    last = said["losses"][-1]
    assert set(last["terms"]) == {"content fire2", "style conv1", "style fire3", "style fire4", "style fire5", "smooth"}
    assert sum(last["terms"].values()) == pytest.approx(last["loss"])


def test_a_result_that_exists_is_skipped_and_a_foreign_sidecar_is_not_replaced(here: Path) -> None:
    assert stylize("cat.jpg", "-s", "coffee.png").code == 0
    before = Path("cat.stylize.jpg").read_bytes()
    done = stylize("cat.jpg", "-s", "coffee.png", "--ratio", "1")
    assert (done.code, Path("cat.stylize.jpg").read_bytes()) == (0, before)
    assert "skipped" in done.err
    assert stylize("cat.jpg", "-s", "coffee.png", "--ratio", "1", "--overwrite").code == 0
    assert Path("cat.stylize.jpg").read_bytes() != before
    Path("new.png.json").write_text("{}")
    done = stylize("cat.jpg", "-s", "coffee.png", "-o", "new.png")
    assert (done.code, Path("new.png.json").read_text()) == (3, "{}")
    assert "[exists]" in done.err


@pytest.mark.parametrize("file", [True, False])
def test_names_of_paintings_and_files_of_that_name(here: Path, file: bool) -> None:
    meant = catalog.painting("starry-night")
    if file:
        Image.new("RGB", (40, 40), (200, 30, 30)).save("starry-night", format="PNG")
        meant = here / "starry-night"
    for style, out in (("starry-night", "name.png"), (meant, "path.png")):
        done = stylize("cat.jpg", "-s", style, "--model", "gatys", "-o", out)
        assert done.code == 0, done.err
    by_name, by_path = (Photo.open(name).pixels for name in ("name.png", "path.png"))
    assert by_name.tobytes() == by_path.tobytes()


def test_several_styles_settings_and_presets(here: Path) -> None:
    more = ("--init", "noise", "--seed", "3", "--colour", "match", "--set", "style_scale=0.5", "--set", "style_layers=conv1,fire3")
    done = stylize("cat.jpg", "-s", "coffee.png", "-s", "the-scream", "--model", "gatys", "--shares", "2,1", *more)
    assert done.code == 0, done.err
    said = json.loads(Path("cat.stylize.jpg.json").read_text())
    assert said["settings"]["shares"] == [2, 1]
    assert (said["settings"]["style_scale"], said["settings"]["seed"], said["settings"]["colour"]) == (0.5, 3, "match")
    assert set(said["losses"][-1]["terms"]) == {"content fire2", "style conv1", "style fire3", "smooth"}
    done = stylize("cat.jpg", "-s", "coffee.png", "--preset", "seed", "-o", "seed.jpg")
    assert done.code == 0, done.err
    assert json.loads(Path("seed.jpg.json").read_text())["settings"]["method"] == "scipy"


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_a_film_of_the_run(here: Path, ending: str) -> None:
    done = stylize("cat.jpg", "-s", "coffee.png", "--film", f"run.{ending}")
    assert done.code == 0, done.err
    assert Path(f"run.{ending}").stat().st_size > 1000


def test_pictures_of_every_kind(here: Path) -> None:
    Image.fromarray(skimage.data.camera()).save("grey.png")
    Image.new("RGBA", (30, 50), (0, 200, 0, 40)).save("clear.png")
    Image.new("RGB", (1, 1), (9, 99, 200)).save("dot.png")
    Image.fromarray((skimage.data.camera().astype(np.uint16) * 257)[::4, ::4]).save("deep.tif")
    for photo in ("grey.png", "clear.png", "dot.png", "deep.tif"):
        for style in ("clear.png", "dot.png", "grey.png"):
            done = stylize(photo, "-s", style, "-o", f"out-{style}")
            assert done.code == 0, done.err
            os.unlink(f"out-{style}")
            os.unlink(f"out-{style}.json")
    assert stylize("clear.png", "-s", "dot.png").code == 0
    with Image.open("clear.stylize.png") as made:
        assert made.mode == "RGBA"
        assert made.getextrema()[3] == (40, 40)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "no style is given"),
        (("-s", "nowhere.jpg"), 3, "there is no such file"),
        (("-s", "net.safetensors"), 3, "not-a-photo"),
        (("-s", "coffee.png", "--features", "vgg19"), 2, "./vgg19.safetensors: [missing]"),
        (("-s", "coffee.png", "--features", "lipstick"), 2, "a system for makeup"),
        (("-s", "coffee.png", "--model", "yolo"), 2, "a system for detect"),
        (("-s", "coffee.png", "--model", "fast-style"), 2, "needs the name of a painting"),
        (("-s", "coffee.png", "--model", "net.safetensors"), 2, "is features, which does not paint"),
        (("-s", "coffee.png", "--shares", "1,2"), 2, "2 weights for 1 styles"),
        (("-s", "coffee.png", "--shares", "a"), 2, "no list of numbers"),
        (("-s", "coffee.png", "--set", "colour"), 2, "write NAME=VALUE"),
        (("-s", "coffee.png", "--set", "memory=0"), 2, "at least 1"),
        (("-s", "coffee.png", "--set", "memory=much"), 2, "memory"),
        (("-s", "coffee.png", "--set", "style_layers=conv9"), 2, "no layer 'conv9'"),
        (("-s", "coffee.png", "--ratio", "nan"), 2, "ratio"),
        (("-s", "coffee.png", "--film", "run.mkv"), 2, "films are written as .gif, .webp, .mp4, .avi"),
    ],
)
def test_what_is_refused(here: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    names = set(os.listdir())
    done = stylize("cat.jpg", *arguments, quick=not {"--features", "--model"} & set(arguments))
    assert (done.code, said in done.err) == (code, True), done.err
    assert len([line for line in done.err.splitlines() if "[" in line]) == 1
    assert set(os.listdir()) == names


@pytest.mark.parametrize("film", ["cat.webp", "style.webp", "out.webp"])
def test_a_film_replaces_no_photo_no_style_and_no_result(here: Path, film: str) -> None:
    for name in ("cat.webp", "style.webp"):
        Photo.open("cat.jpg").save(name)
    before = Path("cat.webp").read_bytes()
    done = stylize("cat.webp", "-s", "style.webp", "-o", "out.webp", "--film", film, "--overwrite")
    assert (done.code, "--film would" in done.err) == (2, True), done.err
    assert Path("cat.webp").read_bytes() == before
    assert not Path("out.webp").exists()


def test_memory_that_would_not_do_is_refused_with_the_size_that_would(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.Loaded, "available", 1e9)
    done = stylize("cat.jpg", "-s", "coffee.png", *QUICK[:2], "--size", "9000", "--guard", "0", quick=False)
    assert done.code == 3
    assert "[too-large]" in done.err
    assert "--size" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ratio", "5"), "ratio is a setting of gatys"),
        (("--shares", "1"), "shares is a setting of gatys"),
        (("--film", "run.gif"), "film is a setting of gatys"),
        (("--film", "run.gif", "--model", "fast-style"), "film is a setting of gatys"),
        (("--features", "nobody"), "features is a setting of gatys"),
        (("--colour", "match", "--guard", "0"), "colour is 'match'"),
        (("--preset", "seed"), "preset is a setting of gatys"),
    ],
)
def test_a_painter_takes_no_settings_of_gatys(here: Path, arguments: tuple[str, ...], said: str) -> None:
    names = set(os.listdir())
    done = stylize("cat.jpg", "-s", "starry-night", *arguments, quick=False)
    assert (done.code, said in done.err) == (2, True), done.err
    assert set(os.listdir()) == names


def test_a_start_from_noise_is_remarked_upon_with_the_bundled_network(here: Path) -> None:
    noise = ("cat.jpg", "-s", "coffee.png", "--init", "noise", "--overwrite")
    assert "hardly" not in stylize(*noise).err
    done = stylize(*noise, "--size", "48", "--iterations", "1", "--guard", "0", quick=False)
    assert (done.code, "hardly finds a picture" in done.err) == (0, True), done.err


INTERRUPTED = """
import os, signal, sys
from visagist.apps.cli import main
from visagist.stylize import descent

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
projected, told = descent.projected, []

def interrupted(objective, x, tell, **settings):
    def counted(x, loss):
        told.append(loss)
        stop()
        return tell(x, loss)
    stop()
    return projected(objective, x, counted, **settings)

def stop():
    if len(told) == int(sys.argv[2]):
        os.kill(os.getpid(), int(sys.argv[1]))

descent.projected = interrupted
sys.exit(main(sys.argv[3:]))
"""


def interrupted(kind: signal.Signals, iteration: int, *photos: str) -> int:
    """The exit code of a run of a hundred iterations that gets the signal at this one, from within: never too early or too late."""
    command = [sys.executable, "-c", INTERRUPTED, str(int(kind)), str(iteration), "stylize", *photos, "-s", "coffee.png"]
    settings = [*QUICK[:2], "--guard", "0", "--size", "160", "--iterations", "100"]
    film = ["--film", "run.gif"] if len(photos) == 1 else []
    return subprocess.run([*command, *settings, *film], stderr=subprocess.DEVNULL, timeout=280).returncode


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_the_best_so_far(here: Path, kind: signal.Signals) -> None:
    assert interrupted(kind, 3, "cat.jpg") == 130
    said = json.loads(Path("cat.stylize.jpg.json").read_text())
    assert said["stopped"]
    assert 2 <= said["iterations"] <= 4
    assert max(Photo.open("cat.stylize.jpg").size) >= 160
    assert Path("run.gif").exists()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("photos", [("cat.jpg",), ("cat.jpg", "coffee.png")], ids=["one", "a batch"])
def test_an_interrupt_before_the_first_iteration_writes_nothing(here: Path, kind: signal.Signals, photos: tuple[str, ...]) -> None:
    names = set(os.listdir())
    assert interrupted(kind, 0, *photos) == 130
    assert set(os.listdir()) == names
