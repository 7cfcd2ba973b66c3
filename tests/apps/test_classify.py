"""classify and evaluate of classifiers as commands, with a small network trained here on pictures of one colour."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from visagist.apps.cli import app
from visagist.classify.cifar import Ladder
from visagist.photo.photo import Photo, is_marked
from visagist.training.data import cifar, cifar_pickles
from visagist.training.data.readers import read
from visagist.training.loop import train

PALETTE = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (210, 40, 50)}


def picture(colour: str, size: tuple[int, int] = (32, 32), seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 25, (*size, 3))
    return np.clip(np.array(PALETTE[colour]) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes: six pictures of each to learn from, two for the test."""
    folder = tmp_path_factory.mktemp("coloured")
    for colour in PALETTE:
        for i in range(8):
            path = folder / ("train" if i < 6 else "test") / colour / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Photo.of(picture(colour, seed=i)).save(path)
    return folder


@pytest.fixture(scope="module")
def weights(coloured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    items = read(coloured, fold="train", needs=("label",))
    out = tmp_path_factory.mktemp("run") / "dense"
    return train(
        Ladder(network="dense", epochs=15, batch=6),
        items,
        out,
        system="cifar-dense",
        card={"preset": "seed"},
        workers=0,
        quiet=True,
    )


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        return Outcome(done.exit_code, done.stdout, done.stderr)

    yield call


def classify(run: Callable[..., Outcome], weights: Path, *arguments: object) -> Outcome:
    return run("classify", "--model", weights.parent, *arguments)


def test_json_has_classes_with_falling_scores(run: Callable[..., Outcome], weights: Path) -> None:
    Photo.of(picture("red", (90, 60))).save("a.jpg")
    done = classify(run, weights, "a.jpg", "gone.png", "--json", "--top", 2)
    good, gone = done.records
    assert done.code == 1
    assert (good["photo"], good["size"], good["faces"], good["error"]) == ("a.jpg", [90, 60], [], None)
    assert good["classes"][0]["label"] == "red" and len(good["classes"]) == 2
    assert good["classes"][0]["score"] >= good["classes"][1]["score"] >= 0
    assert (gone["size"], gone["faces"], gone["classes"], gone["error"]["code"]) == (None, [], [], "missing")


def test_the_table_has_a_bar_for_each_class(run: Callable[..., Outcome], weights: Path) -> None:
    Photo.of(picture("blue")).save("a.png")
    head, *rows = classify(run, weights, "a.png").out.splitlines()
    assert head.split() == ["photo", "class", "score"]
    assert rows[0].split()[1] == "blue" and len(rows) == 3
    assert rows[0].rstrip()[-1] in "█▏▎▍▌▋▊▉#"


def test_csv_has_a_line_for_each_photo(run: Callable[..., Outcome], weights: Path) -> None:
    for colour in PALETTE:
        Photo.of(picture(colour)).save(f"{colour}.png")
    done = classify(run, weights, "blue.png", "green.png", "red.png", "--csv", "--top", 1)
    head, *rows = csv.reader(io.StringIO(done.out))
    assert head == ["photo", "class1", "score1"] and [row[1] for row in rows] == ["blue", "green", "red"]
    assert run("classify", "a.png", "--csv", "--json").code == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (31, 33), (700, 400)])
@pytest.mark.parametrize("more", [(), ("--pad",)])
def test_any_size_is_answered_drawn_and_explained(
    run: Callable[..., Outcome], weights: Path, size: tuple[int, int], more: tuple[str, ...]
) -> None:
    Photo.of(picture("green", size)).save("a.png")
    done = classify(run, weights, "a.png", "--explain", *more)
    assert done.code == 0, done.err
    drawn = Photo.open("a.classify.png")
    assert is_marked("a.classify.png") and drawn.history[-1].verb == "classify"
    assert drawn.size[0] > size[0] and drawn.size[1] >= size[1]


def test_a_copy_is_written_only_where_asked_and_replaces_nothing(run: Callable[..., Outcome], weights: Path) -> None:
    Photo.of(picture("green")).save("a.png")
    assert classify(run, weights, "a.png").code == 0 and os.listdir() == ["a.png"]
    assert classify(run, weights, "a.png", "-o", "out/").code == 0
    before = Path("out/a.png").read_bytes()
    assert classify(run, weights, "a.png", "-o", "out/", "--top", 1).code == 0
    assert Path("out/a.png").read_bytes() == before
    assert classify(run, weights, "a.png", "-o", "out/", "--top", 1, "--overwrite").code == 0
    assert Path("out/a.png").read_bytes() != before
    assert classify(run, weights, "a.png", "-o", "a.png").code == 2


def test_weights_of_another_verb_are_refused_in_one_line(run: Callable[..., Outcome]) -> None:
    Photo.of(picture("green")).save("a.png")
    done = run("classify", "a.png", "--model", "lipstick")
    assert done.code == 2 and done.err.count("\n") == 1 and "for classify there are: cifar-best" in done.err


def test_evaluate_prints_figures_and_draws_what_was_asked_for(run: Callable[..., Outcome], weights: Path, coloured: Path) -> None:
    done = run("evaluate", "cifar-dense", "--data", coloured, "--weights", weights, "--confusion", "c.png", "--quiet")
    (found,) = done.records
    assert found["accuracy"] == 1.0 and found["n"] == 6 and found["accuracy_interval"] == [1.0, 1.0]
    assert found["per_class"] == dict.fromkeys(PALETTE, 1.0)
    assert Photo.open("c.png").size[0] > 100
    done = run("evaluate", "cifar-dense", "--data", coloured, "--weights", weights, "--mistakes", "m.png")
    assert done.code == 2 and "every answer is right" in done.err
    assert run("evaluate", "cifar-dense", "--data", coloured, "--weights", weights, "--confusion", "c.png").code == 2  # it exists
    assert run("evaluate", "yolo", "--data", coloured, "--confusion", "d.png").code == 2


def test_mistakes_are_drawn_with_the_most_confident_first(run: Callable[..., Outcome], weights: Path, tmp_path: Path) -> None:
    for shown, said in (("red", "blue"), ("green", "green"), ("blue", "red"), ("red", "red")):
        path = Path("wrong") / said / f"{shown}{said}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Photo.of(picture(shown)).save(path)
    (found,) = run("evaluate", "cifar-dense", "--data", "wrong", "--weights", weights, "--mistakes", "m.png").records
    assert found["accuracy"] == 0.5 and found["per_class"] == {"blue": 0.0, "green": 1.0, "red": 0.5}
    assert Photo.open("m.png").size[1] > 300


def test_data_of_other_classes_are_refused(run: Callable[..., Outcome], weights: Path) -> None:
    for name in ("blue", "violet"):
        Path("other", name).mkdir(parents=True)
        Photo.of(picture("blue")).save(f"other/{name}/a.png")
    done = run("evaluate", "cifar-dense", "--data", "other", "--weights", weights)
    assert done.code == 4 and "violet/a.png: [bad-data] the class 'violet' is none of the 3 that are known" in done.err


def test_training_by_command_from_binary_files_takes_their_classes(run: Callable[..., Outcome]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    Path("set").mkdir()
    cifar.write(Path("set/data_batch_1.bin"), [i % 4 for i in range(40)], pictures)
    done = run("train", "cifar-conv2", "--data", "set", "--out", "run", "--epochs", 1, "--workers", 0, "--quiet")
    assert done.code == 0, done.err
    card = json.loads(Path("run/weights.json").read_text())
    assert card["settings"]["classes"] == ["airplane", "automobile", "bird", "cat"]
    assert card["trained_on"] == [{"set": "set", "fold": "train", "count": 40, "licence": "not stated"}]


def test_a_measurement_on_what_was_learnt_says_so(
    run: Callable[..., Outcome], coloured: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder without folds is learnt from as a whole and measured as a whole."""
    shutil.copytree(coloured / "train", "plain")
    for data in ("plain", coloured):
        name = Path(data).name
        done = run("train", "cifar-dense", "--data", data, "--out", f"run {name}", "--epochs", 1, "--workers", 0, "--quiet")
        assert done.code == 0, done.err
    done = run("evaluate", "cifar-dense", "--data", "plain", "--weights", "run plain", "--quiet")
    assert done.records[0]["n"] == 18
    assert "may have learnt from 18 of 18 pictures" in caplog.text and "has no folds" in caplog.text
    caplog.clear()
    for data, weights in ((coloured, f"run {coloured.name}"), (coloured, "run plain"), ("plain", f"run {coloured.name}")):
        assert run("evaluate", "cifar-dense", "--data", data, "--weights", weights, "--quiet").code == 0
    assert "learnt from" not in caplog.text
    run("evaluate", "cifar-dense", "--data", coloured, "--weights", f"run {coloured.name}", "--fold", "all", "--quiet")
    assert "18 of 24 pictures" in caplog.text and "not held back" in caplog.text


def test_summaries_are_printed_and_only_of_chains(run: Callable[..., Outcome]) -> None:
    done = run("models", "--summary", "cifar-conv2")
    assert done.code == 0 and done.out.endswith("Total params: 206,910\nTrainable params: 206,910\nNon-trainable params: 0\n")
    assert "Total params: 592,554" in run("models", "--summary", "cifar-cnn").out
    assert run("models", "--summary", "yolo").code == 2 and run("models", "--summary", "vgg").code == 2


def test_pickled_pictures_are_converted_by_command(run: Callable[..., Outcome]) -> None:
    Path("cifar-10-batches-py").mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    Path("cifar-10-batches-py/test_batch").write_bytes(pickle.dumps({b"data": rows, b"labels": [1, 2, 3, 4]}, protocol=2))
    done = run("convert", "cifar-10-batches-py")
    assert done.code == 0 and done.out.strip().endswith("cifar-10-batches-py-binary/test_batch.bin"), done.err
    assert [item.label for item in read("cifar-10-batches-py-binary")] == [1, 2, 3, 4]
    assert run("convert", "cifar-10-batches-py").code == 3
    assert run("convert", "cifar-10-batches-py", "--overwrite").code == 0
    Path("cifar-10-batches-py/test_batch").write_bytes(b"cos\nmkdir\n(Vhacked\ntR.")
    done = run("convert", "cifar-10-batches-py", "--out", "other")
    assert done.code == 4 and "it names os.mkdir" in done.err and not os.path.exists("hacked")


def test_one_class_is_too_few(run: Callable[..., Outcome]) -> None:
    Path("set").mkdir()
    cifar.write(Path("set/data_batch_1.bin"), [3] * 4, np.zeros((4, 3, 32, 32), np.uint8))
    done = run("train", "cifar-dense", "--data", "set", "--out", "run", "--workers", 0)
    assert done.code == 4 and "all pictures are of one class" in done.err
    assert cifar_pickles.is_pickles(Path("set")) is False
