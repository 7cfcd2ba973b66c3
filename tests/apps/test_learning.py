"""train and evaluate: options out of recipes, exit codes, one object on stdout; one small training from start to finish."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visagist import catalog
from visagist.apps.learning import spread, training_of
from visagist.apps.recipe_options import comments_of, options_of, values_of
from visagist.recipe import Recipe

Run = Callable[..., Any]
REAL_LOAD = catalog.load


@dataclass(frozen=True)
class Paper(Recipe):
    width: int = 8  # channels
    box_weight: float = 1.5
    name: str = "a#b"  # with a # in it
    mirror: bool = True  # every second one
    widths: tuple[int, ...] = (1, 2)  # a row
    ranges: tuple[tuple[float, float], ...] = ((0.5, 1.0), (2.0, 3.0))
    words: tuple[str, ...] = ("cat", "dog")


def test_every_field_becomes_an_option_with_its_comment_and_default() -> None:
    made = options_of(Paper())
    assert {name: p.default for name, p in made.items()} == {
        "width": 8,
        "box_weight": 1.5,
        "name": "a#b",
        "mirror": True,
        "widths": "1,2",
        "ranges": "[0.5,1.0],[2.0,3.0]",
        "words": "cat,dog",
    }
    own = {name: text for name, text in comments_of(Paper).items() if name in made}
    assert own == {"width": "channels", "name": "with a # in it", "mirror": "every second one", "widths": "a row"}


def test_texts_of_tuples_are_taken_apart() -> None:
    given = {name: p.default for name, p in options_of(Paper()).items()}
    same = values_of(Paper(), given)
    assert (same["widths"], same["ranges"], same["words"]) == ([1, 2], [[0.5, 1.0], [2.0, 3.0]], ["cat", "dog"])
    changed = values_of(Paper(), {**given, "widths": "3", "words": "a,b,c", "name": "[1]"})
    assert (changed["widths"], changed["words"], changed["name"]) == ([3], ["a", "b", "c"], "[1]")


def test_a_field_may_not_take_the_name_of_another_option() -> None:
    with pytest.raises(ValueError, match="width"):
        options_of(Paper(), frozenset(["width"]))


@pytest.mark.parametrize("system", list(catalog.SYSTEMS))
def test_every_preset_of_the_table_makes_a_command(system: str) -> None:
    for preset in catalog.SYSTEMS[system].presets:
        command = training_of(system, preset)
        names = {name for parameter in command.params for name in parameter.opts}
        assert {"--data", "--out", "--preset", "--fold", "--resume", "--seed", "--device", "--skip-bad", "--workers"} <= names


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--data", "a", "b", "--out", "r"], ["--data", "a", "--data", "b", "--out", "r"]),
        (["--data", "a", "--data", "b", "c"], ["--data", "a", "--data", "b", "--data", "c"]),
        (["--data=a", "x", "--data"], ["--data=a", "x", "--data"]),
        (["--data", "--out"], ["--data", "--out"]),
        (["--", "--data", "a", "b"], ["--", "--data", "a", "b"]),
    ],
)
def test_data_takes_several_paths(given: list[str], wanted: list[str]) -> None:
    assert spread(given, "--data") == wanted


def mouths(folder: Path, count: int = 6) -> Path:
    """Bare and painted mouths, the last two for measuring."""
    for kind, redder in (("bare", 0), ("glaze", 40), ("gloss", -30)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(60, 180, (30, 90, 3), dtype=np.uint8)
            pixels[..., 0] += np.uint8(redder % 256)
            Image.fromarray(pixels).save(folder / kind / f"{number:03}.png")
    with (folder / "lips.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("number", "fold"), *((f"{n:03}", "train" if n < count - 2 else "dev") for n in range(count))])
    return folder


def test_a_training_from_start_to_finish(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mouths(here / "set")
    options = ["--data", "set", "--out", "run", "--steps", "4", "--batch", "2", "--warm", "1", "--workers", "0", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["visagist", "train", "lipstick", *options])
    done = run("train", "lipstick", *options, "--device", "cpu")
    assert (done.code, done.err, done.out) == (0, "", "run/weights.safetensors\n")
    card = json.loads(Path("run/weights.json").read_text())
    assert card["settings"]["preset"] == "residual"
    assert card["settings"]["steps"] == 4
    assert [(one["set"], one["fold"], one["count"]) for one in card["trained_on"]] == [("set", "train", 4)]
    assert {entry["fold"] for entry in card["measured"]} == {"dev"}
    assert card["made"]["command"].startswith("visagist train lipstick --data set")
    assert card["commercial_use"] is False

    done = run("train", "lipstick", *options)
    assert (done.code, "[output-clash]" in done.err) == (2, True)
    assert run("train", "lipstick", *options, "--resume").code == 0
    done = run("train", "lipstick", *options, "--resume", "--rate", "0.5")
    assert (done.code, "[cannot-resume]" in done.err) == (4, True)

    monkeypatch.setattr(catalog, "load", REAL_LOAD)
    done = run("evaluate", "lipstick", "--data", "set", "--weights", "run", "--quiet")
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    assert done.records[0]["n"] == 2
    assert {"glazed_mse", "glossy_mse", "identity_glazed_mse", "affine_glossy_mse"} <= done.records[0].keys()
    assert run("evaluate", "lipstick", "--data", "set", "set", "--weights", "run", "--fold", "all").records[0]["n"] == 12
    done = run("evaluate", "yolo", "--data", "set", "--weights", "run")
    assert (done.code, len(done.err.splitlines())) == (2, 1)


def test_evaluate_prints_intervals_and_draws_the_curve(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from visagist.training import metrics
    from visagist.training.data import made_up, readers

    def measure(nets: Any, items: Any, tools: Any) -> dict[str, float]:
        truth = np.stack([item.faces[0].points for item in items])
        return tools.metrics.points(truth + np.arange(len(items))[:, None, None], truth)

    recipe = SimpleNamespace(needs=(), borrows=(), looks_at=(), measure=measure)
    card = SimpleNamespace(trained_on=())
    loaded = SimpleNamespace(system=catalog.SYSTEMS["landmarks68"], recipe=recipe, nets={}, card=card)
    monkeypatch.setattr(catalog, "load", lambda *a, **k: loaded)
    monkeypatch.setattr(readers, "read", lambda *a, **k: made_up.items(6))
    done = run("evaluate", "landmarks68", "--data", "set", "--curve", "errors.png", "--quiet")
    assert (done.code, done.err) == (0, "")
    (printed,) = done.records
    assert {"nme_box", "failure_rate", "rmse_96", "n"} <= printed.keys()
    for name in ("nme_box", "failure_rate", "rmse_96"):
        low, high = printed[f"{name}_interval"]
        assert low <= printed[name] <= high
    assert printed["n"] == 6 and metrics.FAILED == 0.10
    with Image.open("errors.png") as picture:
        assert picture.width > 400
    for options, code in ((["errors.png"], "output-clash"), (["errors.txt"], "usage")):
        done = run("evaluate", "landmarks68", "--data", "set", "--curve", *options)
        assert (done.code, f"[{code}]" in done.err) == (2, True)
    done = run("evaluate", "yolo", "--data", "set", "--curve", "other.png")
    assert (done.code, "[no-curve]" in done.err, Path("other.png").exists()) == (2, True, False)


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_bad_data_stop_with_4_and_name_the_offenders(here: Path, run: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = SimpleNamespace(system=catalog.SYSTEMS["lipstick"], recipe=catalog.recipe("lipstick"), nets={})
    monkeypatch.setattr(catalog, "load", lambda *a, **k: loaded)
    mouths(here / "set")
    (here / "set/gloss/001.png").unlink()
    Path("empty").mkdir()
    more = ["--out", "run", "--quiet"] if verb == "train" else ["--quiet"]
    for data, code in (("gone", "no-data"), ("empty", "no-data"), ("set", "bad-data")):
        done = run(verb, "lipstick", "--data", data, *more)
        assert (done.code, done.out) == (4, "")
        assert f"[{code}]" in done.err
        assert len(done.err.splitlines()) == 1
    assert "001" in done.err
    assert not Path("run").exists()


def test_a_run_folder_that_cannot_be_made_stops_with_4(here: Path, run: Run) -> None:
    mouths(here / "set")
    Path("file").write_text("in the way")
    done = run("train", "lipstick", "--data", "set", "--out", "file/run", "--steps", "1", "--workers", "0", "--quiet")
    assert (done.code, "[unwritable]" in done.err) == (4, True)


def test_settings_are_checked_before_the_data(here: Path, run: Run) -> None:
    for wrong in (["--steps", "many"], ["--preset", "none"], ["--nonsense", "1"], ["--device"]):
        done = run("train", "lipstick", "--data", "gone", "--out", "run", *wrong)
        assert (done.code, len(done.err.splitlines())) == (2, 1)


def test_missing_packages_of_an_extra_are_named(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    for name in [name for name in sys.modules if name.startswith("visagist.training")]:
        monkeypatch.delitem(sys.modules, name)
    done = run("train", "lipstick", "--data", "gone", "--out", "run")
    assert (done.code, "[missing-extra]" in done.err, "visagist[train]" in done.err) == (2, True, True)
