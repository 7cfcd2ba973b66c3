"""Plots: curves lie where the axes say, gaps stay gaps."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.photo.draw import text_on
from visagist.photo.plot import LINES, _ticks, plot


def of_colour(picture: np.ndarray, number: int) -> np.ndarray:
    """Rows and columns [N, 2] of the pixels of a line, without the legend."""
    return np.argwhere((picture[:560] == LINES[number]).all(-1))


def test_a_rising_line_goes_from_corner_to_corner() -> None:
    at = np.linspace(0, 10, 50)
    picture = plot(at, {"up": at * 10, "low": np.full(50, 20.0)}, across="x", up="y")
    assert picture.dtype == np.uint8 and picture.ndim == 3
    rising, flat = of_colour(picture, 0), of_colour(picture, 1)
    lowest, highest = rising[rising[:, 1].argmin()], rising[rising[:, 1].argmax()]
    assert lowest[0] > 500 and highest[0] < 50 and highest[1] - lowest[1] > 700
    share = (lowest[0] - flat[:, 0].mean()) / (lowest[0] - highest[0])
    assert share == pytest.approx(0.2, abs=0.01)
    assert np.ptp(flat[:, 0]) <= 4


def test_values_beyond_the_axis_are_cut_and_unknown_ones_are_gaps() -> None:
    at = np.linspace(0, 1, 101)
    values = np.where((at > 0.4) & (at < 0.6), np.nan, 300.0)
    columns = of_colour(plot(at, {"a": values}, across="", up=""), 0)[:, 1]
    middle = (columns.min() + columns.max()) / 2
    assert not (np.abs(columns - middle) < 50).any()


def test_there_is_a_legend_line_for_every_curve() -> None:
    at = np.linspace(0, 1, 3)
    heights = [plot(at, {str(i): at for i in range(n)}, across="x", up="y").shape[0] for n in (1, 2, 3)]
    assert heights[1] - heights[0] == heights[2] - heights[1] > 10


@pytest.mark.parametrize(("low", "high", "some"), [(0, 10, [0, 1, 10]), (0, 100, [0, 10, 100]), (0.2, 0.31, [0.2, 0.22, 0.3])])
def test_ticks_are_round(low: float, high: float, some: list[float]) -> None:
    ticks = _ticks(low, high)
    assert len(ticks) <= 11 and set(some) <= set(ticks) and all(low <= t <= high for t in ticks)


def test_upward_text_is_the_text_turned() -> None:
    flat, turned = np.full((60, 200, 3), 255, np.uint8), np.full((200, 60, 3), 255, np.uint8)
    text_on(flat, "words", 20, (20, 30))
    text_on(turned, "words", 20, (30, 180), upward=True)
    inked = [np.argwhere(p.min(-1) < 128) for p in (flat, turned)]
    assert np.ptp(inked[0], axis=0).tolist() == np.ptp(inked[1], axis=0)[::-1].tolist()
    assert abs(inked[1][:, 0].max() - 180) < 4
