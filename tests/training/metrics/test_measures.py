"""Point errors, picture errors and the bootstrap interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visagist.training.metrics import bootstrap_interval, failure_rate, mean_squared_error, nme_box


def test_nme_box_by_hand() -> None:
    truth = np.array([[0.0, 0], [40, 0], [40, 90], [0, 90]])  # a box of 40 x 90: square root of the area is 60
    found = truth + np.array([[3, 4], [0, 0], [0, 0], [0, 1]])  # distances 5, 0, 0, 1
    assert nme_box(found, truth) == pytest.approx(1.5 / 60)
    assert nme_box(np.stack([found, truth]), np.stack([truth, truth])) == pytest.approx([1.5 / 60, 0])


def test_nme_box_refuses_what_has_no_size() -> None:
    with pytest.raises(ValueError, match="no area"):
        nme_box(np.zeros((4, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="do not compare"):
        nme_box(np.zeros((4, 2)), np.ones((5, 2)))


def test_faces_not_found_are_failures() -> None:
    assert failure_rate(np.array([0.05, 0.10, 0.11, np.nan, np.inf])) == pytest.approx(3 / 5)
    assert np.isnan(failure_rate(np.zeros(0)))


@given(
    points=arrays(np.float64, (68, 2), elements=st.floats(0, 200)),
    scale=st.floats(0.1, 10),
    shift=st.floats(-100, 100),
)
def test_nme_box_does_not_depend_on_size_or_place(points: np.ndarray, scale: float, shift: float) -> None:
    truth = points + np.arange(68)[:, None] * [3.0, 5.0]
    found = truth + np.sin(np.arange(136)).reshape(68, 2)
    assert nme_box(found * scale + shift, truth * scale + shift) == pytest.approx(float(nme_box(found, truth)), rel=1e-6)


def test_mean_squared_error_by_hand() -> None:
    a, b = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 20, np.uint8)
    assert mean_squared_error(a, b) == 100
    assert mean_squared_error(np.zeros_like(a), np.full_like(a, 255)) == 255**2  # no 8-bit overflow
    for bad in (a.astype(float), a[:1], a[:0]):
        with pytest.raises(ValueError, match="uint8"):
            mean_squared_error(a, bad)


@given(arrays(np.uint8, (4, 5, 3)), arrays(np.uint8, (4, 5, 3)))
def test_mean_squared_error_is_symmetric_and_zero_for_equals(a: np.ndarray, b: np.ndarray) -> None:
    assert mean_squared_error(a, b) == mean_squared_error(b, a) >= 0
    assert mean_squared_error(a, a) == 0


def test_interval_holds_the_mean_and_is_repeatable() -> None:
    values = np.random.default_rng(1).normal(5, 1, 400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert (low, high) == bootstrap_interval(values)


def test_copies_of_a_person_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(5, 1, 50)
    people = list(range(50))
    low, high = bootstrap_interval(values, people)
    copied = bootstrap_interval(np.repeat(values, 10), np.repeat(people, 10).tolist())
    assert copied == pytest.approx((low, high))
    naive = bootstrap_interval(np.repeat(values, 10))
    assert naive[1] - naive[0] < (high - low) / 2


def test_interval_of_nothing_and_of_one() -> None:
    assert np.isnan(bootstrap_interval([])).all()
    assert bootstrap_interval([3.0, 3.0], ["a", "a"]) == (3.0, 3.0)
    with pytest.raises(ValueError, match="names"):
        bootstrap_interval([1.0], ["a", "b"])
