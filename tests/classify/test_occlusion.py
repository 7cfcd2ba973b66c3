"""What an answer rests on: found where it is, on pictures in which one place decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from visagist.classify.classifier import Classifier
from visagist.classify.occlusion import falls
from visagist.photo.photo import Photo


def corner(pictures: np.ndarray) -> np.ndarray:
    """Class 1 by how light the 6 x 6 pixels at rows 20-25, columns 4-9 are."""
    light = pictures[:, 20:26, 4:10].mean((1, 2, 3)) / 255
    return np.stack([1 - light, light], 1)


def speck() -> np.ndarray:
    picture = np.full((32, 32, 3), 40, np.uint8)
    picture[20:26, 4:10] = 250
    return picture


def test_the_place_that_decides_is_found() -> None:
    heat = falls(corner, speck(), 1)
    assert heat.shape == (32, 32) and heat.dtype == np.float32
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 18 <= row <= 27 and 2 <= column <= 11
    assert np.abs(heat[:10, 18:]).max() < 0.01 * heat.max()
    assert falls(corner, speck(), 0).min() < 0  # hiding it helps the other class


def test_an_answer_that_rests_on_nothing_has_an_empty_map() -> None:
    assert not falls(lambda p: np.full((len(p), 2), 0.5), speck(), 0).any()


class Corner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        light = self.factor * 3 * x[:, :, 20:26, 4:10].mean((1, 2, 3))
        return torch.stack([-light, light], 1)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (1, 1), (5, 400)])
def test_the_map_lies_on_the_photo(size: tuple[int, int], pad: bool) -> None:
    recipe = Classifier(classes=("dark", "light"))
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with torch.no_grad():
        heat = recipe.explain({"classifier": Corner()}, Photo.of(pixels), pad=pad)
    assert heat.shape == size and heat.dtype == np.float32 and heat.min() >= 0 and heat.max() <= 1


def test_what_the_square_leaves_out_is_dark() -> None:
    pixels = np.zeros((64, 160, 3), np.uint8)
    pixels[40:52, 56:68] = 255  # the same speck, in the middle square of 64 pixels
    with torch.no_grad():
        heat = Classifier(classes=("dark", "light")).explain({"classifier": Corner()}, Photo.of(pixels), label="light")
    assert not heat[:, :48].any() and not heat[:, 112:].any()
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 36 <= row <= 56 and 50 <= column <= 72
