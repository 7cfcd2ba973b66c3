"""Bars under photos, photos lit by a heat map, confusion matrices: sizes, what changes and what does not."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.photo.chart import answered, lit, matrix
from visagist.photo.draw import PAPER

SHARES = [("cat", 0.75), ("dog", 0.2), ("a very long name of a class that does not fit", 0.05)]


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (5000, 1), (400, 640), (3, 900)])
def test_bars_stand_under_the_photo(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = answered(pixels, SHARES)
    assert out.dtype == np.uint8 and out.shape[0] > size[0] and out.shape[1] >= max(320, size[1])
    if size[1] >= 320:
        assert np.array_equal(out[: size[0]], pixels)


def test_longer_bars_for_likelier_classes() -> None:
    out = answered(np.zeros((40, 400, 3), np.uint8), SHARES)[40:].astype(int)
    ink = [(np.abs(out - colour).sum(2) < 3).sum(1).max() for colour in ((24, 28, 32), (64, 224, 190))]
    assert ink[0] > 2.5 * ink[1] > 0


def test_light_leaves_a_photo_as_it_is_and_dark_takes_its_colour() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(lit(pixels, np.ones((20, 30))), pixels)
    dark = lit(pixels, np.zeros((20, 30))).astype(int)
    assert dark.mean() < 0.5 * pixels.mean() and np.ptp(dark - [8, 10, 26], axis=2).max() <= 1


def test_a_matrix_is_dark_where_the_pictures_are() -> None:
    counts = np.array([[9, 1, 0], [0, 10, 0], [5, 0, 5]])
    out = matrix(counts, ["ant", "bee", "cow"], cell=40).astype(int)
    blue = (np.abs(out - [0, 114, 178]).sum(2) < 3).sum()
    assert blue > 800  # the whole cell of the bees, but for its number
    assert np.array_equal(out[0, 0], PAPER)


@pytest.mark.parametrize("count", [2, 10, 100])
def test_any_number_of_classes_has_room(count: int) -> None:
    out = matrix(np.eye(count, dtype=int) * 7, [f"class {i}" for i in range(count)])
    assert out.shape[0] == out.shape[1] and 100 < out.shape[0] < 1000


def test_a_class_without_pictures_is_an_empty_row() -> None:
    assert matrix(np.array([[0, 0], [1, 3]]), ["a", "b"]).shape[2] == 3
