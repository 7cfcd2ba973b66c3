"""What all classifiers share: the square of a photo, shifts and mirror images, labels, answers, figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visagist.classify.classifier import CIFAR10, GREY, Classifier, cut_out, square, to_network, varied
from visagist.errors import TrainingError
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Stage, Tools
from visagist.training import metrics
from visagist.training.evaluate import mistakes
from visagist.training.metrics import classes, confusion
from visagist.training.metrics.classes import share_interval


class Brightness(nn.Module):
    """Class 0 for dark pictures, 1 for light ones; told apart from the left half only."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        light = self.factor * 4 * x[..., :16].mean((1, 2, 3))
        return torch.stack([-light, light], 1)


def item(name: str, **more: object) -> Item:
    return Item(name, lambda: Photo.of(np.zeros((32, 32, 3), np.uint8)), **more)  # type: ignore[arg-type]


@given(st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_any_photo_becomes_32_x_32(height: int, width: int, pad: bool) -> None:
    pixels = np.full((height, width, 3), 77, np.uint8)
    out = square(pixels, pad=pad)
    assert out.shape == (32, 32, 3) and out.dtype == np.uint8 and np.abs(out.astype(int) - 77).max() <= 1


def test_the_square_is_the_middle_averaged() -> None:
    pixels = np.zeros((64, 200, 3), np.uint8)
    pixels[:, 68:132] = np.arange(64, dtype=np.uint8)[None, :, None] * 2  # the middle 64 columns
    out = square(pixels)
    assert out[0, :, 0].tolist() == [round(4 * i + 1 + 1e-9) for i in range(32)]


def test_padding_shows_the_whole_photo() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, :20] = 255
    assert square(pixels).max() == 0
    assert square(pixels, pad=True)[:, 0].max() > 200


def test_a_picture_of_32_x_32_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(square(pixels), pixels)


def test_shifts_bring_the_mirrored_border_in() -> None:
    pictures = torch.arange(5, dtype=torch.uint8).repeat(64, 5, 1)[..., None].expand(-1, -1, -1, 3)  # columns 0 1 2 3 4
    torch.manual_seed(0)
    rows = {tuple(row) for row in varied(pictures, shift=2, flipped=None)[:, 0, :, 0].tolist()}
    assert rows == {(2, 1, 0, 1, 2), (1, 0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4, 3), (2, 3, 4, 3, 2)}


def test_mirror_images_come_where_they_are_asked_for() -> None:
    x = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    out = varied(x, shift=0, flipped=torch.tensor([True, False, True, False]))
    assert torch.equal(out[::2], x[::2].flip(2)) and torch.equal(out[1::2], x[1::2])


def test_a_grey_square_lies_somewhere_inside_each_picture() -> None:
    torch.manual_seed(0)
    out = cut_out(torch.full((50, 32, 32, 3), 7, dtype=torch.uint8), 10)
    grey = (out == GREY).all(3)
    assert grey.sum((1, 2)).tolist() == [100] * 50 and set(out.unique().tolist()) == {7, GREY}
    assert all(g.any(1).sum() == 10 and g.any(0).sum() == 10 for g in grey)
    assert len({tuple(g.nonzero()[0].tolist()) for g in grey}) > 30
    assert torch.equal(cut_out(out, 32), torch.full_like(out, GREY))


def test_every_picture_is_mirrored_in_every_other_pass() -> None:
    stage = Stage("learn", (), step=lambda run, batch: {}, optimizers=lambda nets: {}, epochs=4, steps=40)
    side = torch.tensor([True, False, True])
    found = [Classifier().flips(Run({}, {}, stage, step, torch.device("cpu")), {"side": side}) for step in (0, 9, 10, 19, 20, 39)]
    assert [torch.equal(f, side) for f in found] == [False, False, True, True, False, True]
    assert all(torch.equal(f, ~side) or torch.equal(f, side) for f in found)


def test_pixels_enter_networks_between_minus_one_and_one() -> None:
    x = to_network(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8))
    assert x.shape == (1, 3, 1, 1) and torch.allclose(x.flatten(), torch.tensor([-1.0, 1.0, -0.6]))


def test_labels_follow_names_not_numbers() -> None:
    recipe = Classifier()
    assert recipe.label_of(item("a", label=0, facts={"class": "truck"})) == 9
    assert recipe.label_of(item("a", label=3)) == 3
    for bad in (item("x.png", label=2, facts={"class": "zebra"}), item("x.png", label=12)):
        with pytest.raises(TrainingError, match=r"none of the 10 that are known") as caught:
            recipe.label_of(bad)
        assert caught.value.path == "x.png"


def test_a_recipe_takes_the_classes_of_its_data() -> None:
    shown = [item("a", facts={"class": "zebra"}), item("b", facts={"class": "ant"}), item("c", facts={"class": "zebra"})]
    assert Classifier().suited(shown).classes == ("ant", "zebra")
    ten = [item(c, facts={"class": c}) for c in reversed(CIFAR10)]
    assert Classifier().suited(ten) == Classifier()
    assert Classifier().suited([item("a", label=3)]) == Classifier()


def test_answers_are_sorted_probabilities_and_mirroring_takes_both_halves() -> None:
    recipe = Classifier(classes=("dark", "light"))
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 255
    nets = {"classifier": Brightness()}
    with torch.no_grad():
        found = recipe.classify(nets, Photo.of(pixels))
        assert [name for name, _ in found] == ["light", "dark"] and sum(score for _, score in found) == pytest.approx(1)
        both = dataclasses.replace(recipe, mirrored=True).classify(nets, Photo.of(pixels))
    assert both[0][1] == pytest.approx(0.5)


def test_figures_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    found = classes(probabilities, [0, 1, 2, 2])
    assert found["accuracy"] == 0.75 and found["n"] == 4
    assert found["loss"] == pytest.approx(-np.log([0.7, 0.6, 0.2, 0.5]).mean())
    assert confusion(probabilities, [0, 1, 2, 2]).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match="do not fit 3 labels"):
        classes(probabilities, [0, 1, 2])


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    low, high = share_interval(9300, 10000)
    assert 0.930 - low == pytest.approx(1.96 * (0.93 * 0.07 / 1e4) ** 0.5, rel=0.15) and high > 0.93
    assert share_interval(5, 5) == (1.0, 1.0)


def test_measuring_counts_what_is_right() -> None:
    recipe = Classifier(classes=("dark", "light"))
    light = Photo.of(np.full((32, 32, 3), 250, np.uint8))
    items = [item(f"{i}", facts={"class": "dark"}) for i in range(3)]
    items += [Item("l", lambda: light, facts={"class": "light"}), Item("w", lambda: light, facts={"class": "dark"})]
    with torch.no_grad():
        found = recipe.measure({"classifier": Brightness()}, items, Tools(metrics))
    assert found["accuracy"] == 0.8 and found["n"] == 5


def test_mistakes_are_listed_the_surest_first() -> None:
    recipe = Classifier(classes=("dark", "light"))
    items = [
        Item(f"{level}.png", lambda level=level: Photo.of(np.full((32, 32, 3), level, np.uint8)), facts={"class": "dark"})
        for level in (10, 140, 250)
    ]
    with torch.no_grad():
        figures = recipe.measure({"classifier": Brightness()}, items, Tools(metrics))
    found = mistakes(recipe, items, figures)
    assert [(item.name, right, said) for item, right, said, _ in found] == [
        ("250.png", "dark", "light"),
        ("140.png", "dark", "light"),
    ]
    assert 0.5 < found[1][3] < found[0][3] < 1
