"""Our own feature network: sizes, what it is taught with, levelling, trainings of a few steps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visagist import catalog
from visagist.errors import TrainingError
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.stylize import perceptual as room
from visagist.stylize.perceptual import (
    Heads,
    Perceptual,
    PerceptualNet,
    crop_of,
    entering,
    levelled,
    pair_loss,
    recoloured,
    shifted,
)
from visagist.training import metrics
from visagist.training.feed import batches
from visagist.training.loop import train
from visagist.weights import device as devices
from visagist.weights import store

TINY = Perceptual(
    widths=(4, 6, 8, 8, 8), depths=(1, 2, 1, 1, 1), classes=2, crop=32, closest=24, small=2, places=8, batch=4, steps=2
)
PRESETS = list(catalog.SYSTEMS["perceptual"].presets)


def item(name: str, pixels: np.ndarray, label: int | None = None) -> Item:
    photo = Photo.of(pixels)
    return Item(name, lambda: photo, label=label)


def stripes(rng: np.random.Generator, across: bool) -> np.ndarray:
    """A small picture of a class: stripes lying or standing, of any colours and width."""
    light, dark = rng.integers(140, 255, 3), rng.integers(0, 110, 3)
    lines = (np.arange(32) // int(rng.integers(2, 5)) + int(rng.integers(2))) % 2
    pixels = np.where(lines[:, None], light, dark)[:, None].repeat(32, 1)
    return (pixels if across else pixels.swapaxes(0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Large pictures without a class, small ones of two."""
    rng = np.random.default_rng(0)
    large = [item(f"large{i}", rng.integers(i * 20, i * 20 + 60, (40, 56, 3)).astype(np.uint8)) for i in range(6)]
    small = [item(f"small{i}", stripes(rng, i % 2 == 0), i % 2) for i in range(24)]
    return large + small


def of(preset: str) -> Perceptual:
    """The preset, tiny."""
    recipe = catalog.recipe("perceptual", preset)
    assert isinstance(recipe, Perceptual)
    kept = {name: getattr(recipe, name) for name in ("large", "steps")}
    return replace(TINY, **kept, small=min(2, recipe.small), crop=32)


# ---- networks


def test_the_network_is_as_large_as_the_table_says() -> None:
    recipe = Perceptual()
    with torch.device("meta"):
        nets = recipe.networks()
    net = nets["features"]
    assert isinstance(net, PerceptualNet)
    widths = [3, 32, 32, 64, 64, 128, 128, 256, 256, 256]
    assert list(net.layers) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1"]
    assert sum(p.numel() for p in net.parameters()) == sum(9 * a * b + 2 * b for a, b in zip(widths, widths[1:], strict=False))
    assert sum(p.numel() for p in net.parameters()) == 1_763_552
    assert sum(p.numel() for p in net.parameters()) * 2 <= 8_000_000  # bytes at float16
    shapes = {name: (*f.shape[1:],) for name, f in net(torch.zeros(1, 3, 64, 48, device="meta"), net.layers).items()}
    assert shapes["conv1_2"] == (32, 64, 48) and shapes["conv3_1"] == (128, 16, 12) and shapes["conv5_1"] == (256, 4, 3)
    assert set(net.content) | set(net.style) <= set(net.layers)


def test_heads_answer_two_questions() -> None:
    heads = Heads(8, 10, 30, 16)
    assert heads(torch.zeros(3, 8), "classes").shape == (3, 10)
    assert heads(torch.rand(3, 30), "pairs").shape == (3, 16)


def test_in_use_it_is_folded_and_gives_the_same(items: list[Item]) -> None:
    torch.manual_seed(0)
    net = TINY.networks()["features"]
    assert isinstance(net, PerceptualNet)
    levelled(net, torch.rand(4, 3, 32, 32) * 2 - 1)
    net.eval()
    x = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        wanted = net(x, ["conv2_2", "conv5_1"])
        found = devices.prepare(net, torch.device("cpu"), exact=True)(x, ["conv2_2", "conv5_1"])
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], atol=1e-4)


# ---- losses


def test_pairs_in_closed_form() -> None:
    places = torch.eye(4).repeat_interleave(2, 0)  # the crops of a picture agree, those of others are at right angles
    numbers = torch.arange(4)
    loss, right = pair_loss(places * 3, numbers, 0.5)
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 6) - 2, abs=1e-5)
    assert right == 1
    loss, _ = pair_loss(torch.ones(8, 3), numbers, 0.1)  # nothing can be told apart
    assert loss.item() == pytest.approx(math.log(7), abs=1e-5)


def test_a_picture_drawn_twice_does_not_contradict_itself() -> None:
    places = torch.eye(2)[[0, 0, 0, 0, 1, 1]]
    once, _ = pair_loss(places, torch.tensor([0, 1, 2]), 0.5)
    twice, right = pair_loss(places, torch.tensor([0, 0, 2]), 0.5)
    assert twice < once and right == 1


def test_levelled_channels_have_mean_one_and_compute_the_same() -> None:
    torch.manual_seed(0)
    net = TINY.networks()["features"]
    assert isinstance(net, PerceptualNet)
    x = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        net.train()
        for block in net.blocks.values():
            block[-2].momentum = 1.0  # type: ignore[union-attr, operator]
        before = {name: f.clone() for name, f in net(x, net.layers).items()}  # normalised by the batch
        levelled(net, x)
        after = net.eval()(x, net.layers)
    for name, f in after.items():
        fires = before[name].mean((0, 2, 3)) > 1e-4
        assert torch.allclose(f.mean((0, 2, 3))[fires], torch.ones(int(fires.sum())), atol=1e-3)
        unit = before[name][:, fires] / before[name][:, fires].mean((0, 2, 3), keepdim=True)
        assert torch.allclose(f[:, fires], unit, atol=2e-2), name
    state = {name: t.clone() for name, t in net.state_dict().items()}
    levelled(net, x)
    assert all(torch.allclose(t, state[name], rtol=1e-2, atol=1e-3) for name, t in net.state_dict().items())


# ---- examples


def test_examples(items: list[Item]) -> None:
    recipe = replace(TINY, large=2, small=3)
    drawn = recipe.compose(items, 0, np.random.default_rng(1))
    made = recipe.example(drawn, np.random.default_rng(2))
    assert made["crops"].shape == (4, 32, 32, 3) and made["numbers"].shape == (2,)
    assert made["pictures"].shape == (3, 32, 32, 3) and set(made["labels"]) <= {0, 1}
    again = recipe.example(recipe.compose(items, 0, np.random.default_rng(1)), np.random.default_rng(2))
    assert all((made[name] == again[name]).all() for name in made)


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (300, 7), (32, 32), (500, 400)])
def test_crops_of_any_picture(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
    for _ in range(5):
        assert crop_of(pixels, 24, 64, rng).shape == (24, 24, 3)
    assert shifted(pixels, rng).shape == (32, 32, 3)


def test_another_light_keeps_the_range() -> None:
    torch.manual_seed(0)
    x = entering(torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8))
    assert x.min() >= -1 and x.max() <= 1
    y = recoloured(x)
    assert y.shape == x.shape and y.min() >= -1 and y.max() <= 1
    assert (y - x).abs().mean() > 0.02


@pytest.mark.parametrize(("without", "flag"), [("small", "--small 0"), ("large", "--large 0")])
def test_a_task_without_its_pictures_is_refused(items: list[Item], without: str, flag: str) -> None:
    left = [i for i in items if (i.label is None) == (without == "small")]
    with pytest.raises(TrainingError, match="no pictures") as caught:
        TINY.compose(left, 0, np.random.default_rng(0))
    assert flag in str(caught.value.line())
    assert replace(TINY, **{without: 0}).compose(left, 0, np.random.default_rng(0))


# ---- training


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "random"])
def test_every_parameter_gets_a_gradient(items: list[Item], preset: str) -> None:
    recipe = of(preset)
    torch.manual_seed(0)
    nets = recipe.networks()
    stage = recipe.stages()[0]
    run = Run(nets, {}, stage, 0, torch.device("cpu"))
    stepped: list[torch.Tensor] = []
    run.update = lambda name, loss: (loss.backward(), stepped.append(loss))  # type: ignore[method-assign, misc, assignment]
    (batch,) = batches(recipe, items, seed=0, stage=0, batch=4, first=0, last=1)
    told = recipe.step(run, batch)
    assert len(stepped) == 1 and all(math.isfinite(float(v)) for v in told.values())
    wanted = {"features": nets["features"]} | {f"heads.{n}": getattr(nets["heads"], n) for n in asked(recipe)}
    for name, net in wanted.items():
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, f"{name}.{key}"


def asked(recipe: Perceptual) -> list[str]:
    return ["pairs"] * (recipe.large > 0) + ["classes"] * (recipe.small > 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_loads(items: list[Item], tmp_path: Path, preset: str) -> None:
    recipe = replace(of(preset), steps=min(of(preset).steps, 2))
    options: dict[str, Any] = {"workers": 0, "quiet": True, "precision": "fp32", "system": "perceptual", "card": {"preset": preset}}
    path = train(recipe, items, tmp_path / "run", validation=items, **options)
    tensors, card = store.read(path)
    assert all(name.startswith("features.") for name in tensors)
    assert {m.metric for m in card.measured} >= {"pairs"}
    loaded = catalog.load(path, "cpu", verb="stylize")
    with loaded.inference():
        found = loaded.nets["features"](torch.zeros(1, 3, 33, 40), ["conv1_1", "conv5_1"])
    assert found["conv5_1"].shape == (1, 8, 2, 2) and bool(found["conv5_1"].isfinite().all())
    catalog.forget()


def test_a_tiny_overfit(items: list[Item], tmp_path: Path) -> None:
    recipe = replace(TINY, steps=60, batch=8, rate=5e-3, widths=(8, 8, 8, 16, 16))
    options: dict[str, Any] = {"workers": 0, "quiet": True, "precision": "fp32", "system": "perceptual"}
    path = train(recipe, items, tmp_path / "run", validation=items, measure_every=60, **options)
    lines = (path.parent / "log.jsonl").read_text().splitlines()
    measured = [json.loads(line)["measured"] for line in lines if '"measured"' in line]
    assert measured[0]["accuracy"] >= 0.9 and measured[0]["n"] == 24
    assert measured[-1]["pairs"] >= 0.6 and measured[-1]["n_pairs"] == 6


def test_measures_on_a_part_of_many(items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MEASURED", 5)
    nets = TINY.networks()
    for net in nets.values():
        net.eval()
    with torch.no_grad():
        figures = TINY.measure(nets, items, Tools(metrics))
        assert figures["n"] == 5 and 0 <= figures["accuracy"] <= 1
        assert set(TINY.measure({"features": nets["features"]}, items, Tools(metrics))) == {"pairs", "n_pairs", "n"}
        assert TINY.measure(nets, [], Tools(metrics)) == {}
