"""What is continued stays on its own side of an edge."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.rotate.spread import spread


def halves(step: float) -> np.ndarray:
    """A picture whose right half is brighter by `step`."""
    picture = np.full((40, 60, 3), 0.4)
    picture[:, 30:] += step
    return picture


def known() -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 15:29] = True
    return mask


def test_known_values_stay() -> None:
    values = np.random.default_rng(0).normal(size=(40, 60))
    made, share = spread(values, known(), halves(0.2), 8, 0.3)
    assert np.array_equal(made[known()], values[known()])
    assert (share[known()] == 1).all()


def test_a_constant_is_continued_as_that_constant() -> None:
    made, share = spread(np.full((40, 60), 0.7), known(), halves(0.2), 8, 0.3)
    assert made[share > 1e-3] == pytest.approx(0.7, abs=1e-9)
    assert share.min() >= 0 and share.max() <= 1


def test_an_edge_keeps_it_from_the_other_side() -> None:
    flat, edged = (spread(np.ones((40, 60)), known(), halves(step), 8, 0.3)[1] for step in (0, 0.5))
    assert edged[20, 32:40].max() < 0.1 * flat[20, 32:40].max()
    assert edged[20, 10] == pytest.approx(flat[20, 10], abs=0.05)  # the side without an edge does not mind


def test_it_fades_with_distance() -> None:
    share = spread(np.ones((40, 60)), known(), halves(0), 8, 0.3)[1]
    line = share[20, 28:]
    assert (np.diff(line) <= 1e-9).all()
    assert line[1] > 0.75
    assert line[-1] < 0.05


def test_mirrored_pictures_give_mirrored_results() -> None:
    rng = np.random.default_rng(1)
    picture, values = rng.random((40, 60, 3)), rng.normal(size=(40, 60))
    straight = spread(values, known(), picture, 8, 0.3)
    mirrored = spread(values[:, ::-1], known()[:, ::-1], picture[:, ::-1], 8, 0.3)
    for one, other in zip(straight, mirrored):
        assert np.abs(one - other[:, ::-1]).max() < 0.15  # each pass goes there and back: nearly, not exactly, symmetric
        assert np.abs(one - other[:, ::-1]).mean() < 0.002
