"""Every lesson of the primer runs, draws its pictures and finds what it says it finds; docs/primer.md shows what they make."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
PRIMER, PAGE, PICTURES = ROOT / "examples" / "primer", ROOT / "docs" / "primer.md", ROOT / "docs" / "pictures" / "primer"
# Each lesson with settings that make it quick, and the pictures it writes.
LESSONS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "lesson1_perceptron": ({}, {"perceptron.png"}),
    "lesson2_salary": ({}, {"salary.png", "descent.png"}),
    "lesson3_network": ({"steps": 100, "moon_steps": 20}, {"xor.png", "moons.png"}),
    "lesson4_activations": ({}, {"elu.png", "gradients.png"}),
    "lesson5_convolution": ({"side": 8, "rows": 3}, {"by_hand.png", "sizes.png", "sliding.webp"}),
    "lesson6_edges": ({}, {"edges.webp"}),
    "lesson7_dense_or_convolution": ({"count": 40, "passes": 1, "new": 20}, {"matrix.png", "shifted.png"}),
    "lesson8_fully_convolutional": ({"count": 40, "passes": 1}, {"fully_convolutional.webp"}),
}


@pytest.fixture(autouse=True)
def primer_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PRIMER)


def lesson(number: int) -> ModuleType:
    (name,) = (name for name in LESSONS if name.startswith(f"lesson{number}"))
    return import_module(name)


# ---- they run


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_and_draws(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, pictures = LESSONS[name]
    import_module(name).main(tmp_path, **settings)
    assert {p.name for p in tmp_path.iterdir()} == pictures
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 100
            assert len(np.unique(picture.convert("L").resize((64, 64)))) > 10  # there is something on it
    assert capsys.readouterr().out


def test_a_lesson_is_a_command_and_does_without_torch(tmp_path: Path) -> None:
    code = f"import runpy, sys\nsys.argv = ['lesson', '--out', {str(tmp_path)!r}]\nsys.path.insert(0, {str(PRIMER)!r})\n"
    code += f"for n in {list(LESSONS)!r}: __import__(n)\n"
    code += f"runpy.run_path({str(PRIMER / 'lesson1_perceptron.py')!r}, run_name='__main__')\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]
    assert done.stdout.startswith("Lesson 1.")
    assert (tmp_path / "perceptron.png").is_file()


def test_all_lessons_are_listed_and_shown_and_their_pictures_are_small() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert {p.stem for p in PRIMER.glob("lesson[1-9]_*.py")} == set(LESSONS)
    made = set().union(*(pictures for _, pictures in LESSONS.values()))
    assert {p.name for p in PICTURES.iterdir()} == made
    assert set(re.findall(r"\(pictures/primer/([\w.]+)\)", page)) == made
    assert set(re.findall(r"\(\.\./examples/primer/(\w+)\.py\)", page)) == set(LESSONS)
    sizes = [p.stat().st_size for p in PICTURES.iterdir()]
    assert max(sizes) < 60_000
    assert sum(sizes) < 1_000_000
    for said in ("**Sign.**", "**Step.**", "**Kernels are not flipped.**", "**Channels come first.**"):
        assert said in page


@pytest.mark.long
def test_the_lines_that_the_page_quotes_are_what_the_lessons_say(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, PRIMER, "--out", tmp_path], capture_output=True, text=True, check=True)
    said = set(done.stdout.splitlines())
    quoted = "".join(re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)).splitlines()
    assert len(quoted) > 20
    assert [line for line in quoted if line not in said] == []


@pytest.mark.long
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_takes_less_than_ten_seconds_of_one_core(name: str, tmp_path: Path) -> None:
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = os.times().children_user
    command = [sys.executable, PRIMER / f"{name}.py", "--out", tmp_path]
    subprocess.run(command, env={**os.environ, **one}, capture_output=True, check=True)
    assert os.times().children_user - before < 10
    assert {p.name for p in tmp_path.iterdir()} == LESSONS[name][1]


# ---- they find what they say


def test_a_perceptron_learns_and_and_or_but_never_xor() -> None:
    one = lesson(1)
    for name in ("AND", "OR"):
        w, b, wrong = one.learn(one.CORNERS, one.WANTED[name])
        assert wrong[-1] == 0
        assert one.answer(one.CORNERS, w, b).tolist() == one.WANTED[name].tolist()
    w, b, wrong = one.learn(one.CORNERS, one.WANTED["XOR"], passes=1000)
    assert len(wrong) == 1000
    assert min(wrong) >= 1
    assert np.abs([*w, b]).max() < 1  # it goes round in circles, it does not run away


def test_a_linear_unit_comes_within_a_hundredth_of_least_squares() -> None:
    two = lesson(2)
    years, trade, salary = two.people()
    for x in (years[:, None], np.column_stack([years, two.one_hot(trade)])):
        scaled, scale = two.normalised(x)
        way, errors = two.descend(scaled, salary, two.fastest_rate(scaled), 200)
        exact = two.least_squares(x, salary)
        assert np.abs(two.back_to_units(way[-1], scale) / exact - 1).max() < 0.01
        assert (np.diff(errors) <= 1e-9).all()
        w = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
        b = torch.zeros((), dtype=torch.float64, requires_grad=True)
        ((torch.tensor(x) @ w + b - torch.tensor(salary)) ** 2).sum().div(2).backward()
        _, dw, db = two.gradient(x, salary, np.zeros(x.shape[1]), 0.0)
        assert np.allclose(dw, w.grad.numpy(), rtol=1e-12)
        assert np.isclose(db, b.grad.item(), rtol=1e-12)


def test_above_twice_the_safe_rate_it_flies_off() -> None:
    two = lesson(2)
    years, _, salary = two.people()
    x, _ = two.normalised(years[:, None])
    for share, grows in ((1.98, False), (2.02, True)):
        _, errors = two.descend(x, salary, share * two.fastest_rate(x), 100)
        assert (errors[-1] > errors[0]) == grows


def test_competing_lines_find_the_trades_that_nobody_told_them() -> None:
    two = lesson(2)
    years, trade, salary = two.people()
    lines, belongs = two.competing_lines(np.column_stack([years, salary]), 3)
    assert (belongs == trade).mean() > 0.95
    assert np.abs(lines[:, 1] - two.START).max() < 2


def test_a_table_of_words_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = lesson(2)
    table = tmp_path / "people.csv"
    table.write_text("trade,years,pay\nnurse,1,30\nbaker,2,21\nnurse,3,32\nbaker,5,24\n\n", encoding="utf-8")
    names, x, t = two.read_table(table)
    assert names == ["trade nurse", "years", "pay"]
    assert x.tolist() == [[1, 1], [0, 2], [1, 3], [0, 5]]
    assert t.tolist() == [30, 21, 32, 24]
    two.learn_table(table)
    learned, exact = zip(*(line.split()[-2:] for line in capsys.readouterr().out.splitlines()[1:]))
    assert np.allclose(np.array(learned, float), np.array(exact, float), rtol=1e-2)
    for bad in ("", "pay\n1\n2\n", "a,b\n1,2\n3\n", "a,b\n1,x\n2,y\n"):
        table.write_text(bad, encoding="utf-8")
        with pytest.raises(SystemExit, match=re.escape("people.csv")):
            two.read_table(table)


def test_networks_with_four_hidden_units_learn_xor_from_nine_of_ten_seeds() -> None:
    three = lesson(3)
    weights, errors = three.learn_xor(4, seeds=10, steps=3000, every=1000)
    assert (errors[-1] < 0.05).sum() >= 9
    _, y = three.forward(three.X, weights)
    assert ((y > 0.5) == (three.XOR > 0.5)).all((1, 2)).sum() >= 9


def test_the_blame_of_lesson_3_is_that_of_autograd() -> None:
    three = lesson(3)
    weights = three.first_weights(3, seeds=20)
    errors, blame = three.gradients(three.X, three.XOR, weights)
    w1, b1, w2, b2 = tensors = [torch.tensor(w, requires_grad=True) for w in weights]
    a = torch.sigmoid(torch.tensor(three.X) @ w1.transpose(1, 2) + b1[:, None])
    y = torch.sigmoid(a @ w2.transpose(1, 2) + b2[:, None])
    theirs = (y - torch.tensor(three.XOR)).square().sum((1, 2)) / 2
    theirs.sum().backward()
    assert np.abs(errors - theirs.detach().numpy()).max() < 1e-9
    for ours, tensor in zip(blame, tensors):
        assert np.abs(ours - tensor.grad.numpy()).max() < 1e-9
    for ours, nudged in zip(blame, three.numerical(three.X, three.XOR, weights)):
        assert np.abs(ours - nudged).max() / np.abs(ours).max() < 1e-6


def test_a_gradient_vanishes_in_sigmoids_and_a_dead_unit_stays_dead() -> None:
    four = lesson(4)
    left = {name: four.gradient_by_layer(name)[0] for name in ("sigmoid", "relu", "elu")}
    assert left["sigmoid"] < 1e-10
    assert min(left["relu"], left["elu"]) > 0.3
    ends = {name: four.revive(name)[-1] for name in ("relu", "leaky_relu", "elu")}
    assert ends["relu"] == 0.5
    assert max(ends["leaky_relu"], ends["elu"]) < 0.05


def test_the_worked_example_gives_2_3() -> None:
    five = lesson(5)
    assert five.one_place(five.PATCH, five.HORIZONTAL) == pytest.approx(2.3)
    assert five.slide(five.PATCH, five.HORIZONTAL).tolist() == [[pytest.approx(2.3)]]
    assert five.one_place(five.PATCH, five.HORIZONTAL[::-1, ::-1]) == pytest.approx(-2.3)  # flipped, as in mathematics
    light_above = np.repeat([[1.0], [1], [0], [0]], 4, 1)
    assert five.slide(light_above, five.HORIZONTAL).tolist() == [[3, 3], [3, 3]]
    assert five.slide(light_above, five.VERTICAL).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (90, 60)])
def test_any_photo_goes_through_the_kernels(size: tuple[int, int], tmp_path: Path) -> None:
    photo = tmp_path / "me.png"
    Image.new("LA", size, (120, 40)).save(photo)
    lesson(6).main(tmp_path / "out", photo)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["me.edges.webp"]


def test_kernels_for_brightness_and_for_colour() -> None:
    six = lesson(6)
    grey = np.full((8, 9, 3), 77, np.uint8)
    flat = six.responses(grey)
    assert {answer.shape for answer in flat.values()} == {(8, 9)}
    assert np.abs(flat["bright above dark"]).max() < 1e-12
    assert np.abs(flat["red against blue"]).max() < 1e-12
    assert np.allclose(flat["blur: mean of 5 × 5"], 77 / 255)
    grey[:, :, 0] += 51
    assert np.allclose(six.responses(grey)["red against blue"], 0.2)


def test_a_convolution_is_a_dense_layer_with_few_weights() -> None:
    seven = lesson(7)
    rng = np.random.default_rng(0)
    for stride, pad in ((1, 0), (1, 1), (2, 1)):
        w, x = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(2, 5, 6))
        matrix = seven.as_matrix(w, 5, 6, stride, pad)
        theirs = F.conv2d(torch.tensor(x)[None], torch.tensor(w), stride=stride, padding=pad)
        assert np.allclose(matrix @ x.ravel(), theirs.numpy().ravel(), atol=1e-12)
        assert len(np.unique(matrix)) == w.size + 1  # its weights, and 0


@pytest.mark.parametrize("split", [True, False], ids=["with a test", "without"])
def test_a_folder_of_classes_is_learned(split: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seven = lesson(7)
    rng = np.random.default_rng(0)
    for i in range(60):
        stripes = np.repeat(rng.integers(0, 256, (40, 1, 3), dtype=np.uint8), 52, 1)
        of = ("lying", "standing")[i % 2]
        path = tmp_path / (("test" if i < 12 else "train") if split else "") / of / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stripes if i % 2 == 0 else stripes.transpose(1, 0, 2)).save(path)
    names, (shown, labels), (asked, right) = seven.read_folder(tmp_path)
    assert names == ["lying", "standing"]
    assert shown.shape == (48, 3, 32, 32) and asked.shape == (12, 3, 32, 32) and shown.min() < -0.5 and shown.max() > 0.5
    stand = [np.ptp(x, axis=2).max() > 0 for x in (*shown, *asked)]  # colours change along the rows
    assert [names[i] == "standing" for i in (*labels, *right)] == stand
    assert len({x.tobytes() for x in (*shown, *asked)}) == 60
    assert np.array_equal(seven.read_folder(tmp_path)[2][0], asked)
    seven.learn_folder(tmp_path, passes=1)
    said = capsys.readouterr().out
    assert "learned from 48 pictures, tested on 12 others" in said
    assert seven.dense_of(3072, 32, 10, rng).count() == 98_666


def test_a_folder_that_is_none_of_classes_is_refused(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SystemExit, match="no-data"):
            lesson(7).read_folder(wrong)
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "cat" / "1.png")
    with pytest.raises(SystemExit, match="at least two"):
        lesson(7).read_folder(tmp_path)


def test_the_two_convolution_model_has_the_parameters_of_its_table() -> None:
    model = [nn.Conv2d(3, 10, 3), nn.Conv2d(10, 20, 3), nn.Flatten(), nn.Linear(20_480, 10)]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in model]
    assert counts == [row[2] for row in lesson(7).CONV2] == [280, 1_820, 0, 204_810]
    rng = np.random.default_rng(0)
    assert lesson(7).dense_net(rng).count() == 23_860
    assert lesson(7).conv_net(rng).count() == 2_210


def test_the_top_of_each_map_is_max_pooling_over_all_of_it() -> None:
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    theirs = x.amax((2, 3))
    layer = lesson(7).TopOfEachMap()
    dy = np.random.default_rng(0).normal(size=(3, 4))
    theirs.backward(torch.tensor(dy))
    assert np.array_equal(layer.forward(x.detach().numpy()), theirs.detach().numpy())
    assert np.array_equal(layer.backward(dy), x.grad.numpy())


def test_a_network_without_dense_layers_answers_a_scene_as_it_answers_every_window() -> None:
    eight = lesson(8)
    net = eight.classifier(np.random.default_rng(0))
    for layer in net.layers:
        for parameter in layer.parameters:
            parameter += np.random.default_rng(parameter.size).normal(0, 0.3, parameter.shape)
    scene, _ = eight.crowd()
    asked = eight.one_by_one(net, scene, 4)
    whole = eight.convolutionised(net)
    walked = eight.at_once(whole, scene)
    assert np.ptp(asked) > 0.5  # it is not always the same
    assert np.abs(walked - asked).max() < 1e-12
    assert whole.count() == net.count() == 2_858
    assert eight.work(whole, 16, 16) == eight.work(net, 16, 16)
    theirs = [nn.Linear(9216, 4096, device="meta"), nn.Linear(4096, 4096, device="meta"), nn.Linear(4096, 1000, device="meta")]
    ours = [(side * side * c + 1) * o for _, side, c, o in eight.ALEXNET_HEADS]
    assert ours == [sum(p.numel() for p in layer.parameters()) for layer in theirs]


@pytest.mark.long
def test_little_faces_are_learned() -> None:
    eight, seven = lesson(8), lesson(7)
    net = eight.classifier(np.random.default_rng(0))
    losses = seven.train(net, *eight.little_faces(3000), 12, rate=0.2, batch=16)
    assert losses[-1] < losses[0] / 5
    assert seven.accuracy(net, *eight.little_faces(1000, seed=1)) > 0.98
