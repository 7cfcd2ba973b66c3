"""Point errors, picture errors and the bootstrap interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visagist.training.metrics import (
    bootstrap_interval,
    cumulative,
    failure_rate,
    mean_squared_error,
    nme_box,
    points,
    ratio_interval,
)


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
    places=arrays(np.float64, (68, 2), elements=st.floats(0, 200)),
    scale=st.floats(0.1, 10),
    shift=st.floats(-100, 100),
)
def test_nme_box_does_not_depend_on_size_or_place(places: np.ndarray, scale: float, shift: float) -> None:
    truth = places + np.arange(68)[:, None] * [3.0, 5.0]
    found = truth + np.sin(np.arange(136)).reshape(68, 2)
    assert nme_box(found * scale + shift, truth * scale + shift) == pytest.approx(float(nme_box(found, truth)), rel=1e-6)


SQUARE = np.array([[0.0, 0], [60, 0], [60, 60], [0, 60]])


def test_points_by_hand() -> None:
    """Four faces of 60 x 60: off by (3, 4) at one point, by (6, 8) at all, not found, and half labelled with its hull given."""
    truth = np.stack([SQUARE, SQUARE + 7, SQUARE, SQUARE])
    truth[3, 2:] = np.nan
    off = np.array([[[3, 4], [0, 0], [0, 0], [0, 0]], [[13, 15]] * 4, [[np.nan] * 2] * 4, [[0, 3]] * 4])
    found = SQUARE + off
    figures = points(found, truth, hulls=np.array([[0, 0, 60, 60]] * 4))
    assert list(figures) == ["nme_box", "failure_rate", "rmse_96", "n"]
    assert figures["nme_box"] == pytest.approx((5 / 4 + 10 + 3) / 60 / 3)
    assert figures["failure_rate"] == pytest.approx(2 / 4)
    squares = 25 + 4 * 100 + 2 * 9  # over 4 + 4 + 2 points, two coordinates each, in a window of 1.3 * 60 pixels
    assert figures["rmse_96"] == pytest.approx(np.sqrt(squares / 20) * 96 / 78)
    assert figures["n"] == 4
    assert figures["nme_box"].values == pytest.approx([1.25 / 60, 10 / 60, np.nan, 3 / 60], nan_ok=True)  # type: ignore[union-attr]


def test_points_agree_with_the_measures_of_one_face() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 90, (30, 68, 2))
    found = truth + rng.normal(0, 6, truth.shape)
    figures, errors = points(found, truth), nme_box(found, truth)
    assert figures["nme_box"] == pytest.approx(errors.mean())
    assert figures["failure_rate"] == failure_rate(errors)
    low, high = figures["nme_box"].interval  # type: ignore[union-attr]
    assert (low, high) == pytest.approx(bootstrap_interval(errors), rel=0.02)
    people = np.repeat(np.arange(10), 3).tolist()
    drawn = [errors.reshape(10, 3)[np.random.default_rng(r).integers(10, size=10)].mean() for r in range(1000)]
    wide = points(found, truth, people=people)["nme_box"].interval  # type: ignore[union-attr]
    assert wide == pytest.approx(np.quantile(drawn, [0.025, 0.975]), rel=0.02)


def test_points_of_nobody_and_of_nothing_found() -> None:
    none = points(np.zeros((0, 5, 2)), np.zeros((0, 5, 2)))
    assert np.isnan(none["nme_box"]) and np.isnan(none["failure_rate"]) and none["n"] == 0
    lost = points(np.full((2, 4, 2), np.nan), np.stack([SQUARE, SQUARE]))
    assert np.isnan(lost["nme_box"]) and np.isnan(lost["rmse_96"]) and lost["failure_rate"] == 1
    assert np.isnan(lost["nme_box"].interval).all()  # type: ignore[union-attr]


def test_points_refuse_what_does_not_compare() -> None:
    with pytest.raises(ValueError, match="no area"):
        points(np.zeros((1, 4, 2)), np.zeros((1, 4, 2)))
    with pytest.raises(ValueError, match="no area"):
        points(SQUARE[None], SQUARE[None] * np.nan)
    with pytest.raises(ValueError, match="do not compare"):
        points(SQUARE[None], SQUARE)
    with pytest.raises(ValueError, match="names"):
        points(SQUARE[None], SQUARE[None], people=[])


def test_cumulative_curve_by_hand() -> None:
    assert cumulative(np.array([0.02, np.nan, 0.01, 0.05]), np.array([0, 0.01, 0.03, 1])).tolist() == [0, 0.25, 0.5, 0.75]
    assert cumulative(np.zeros(0), np.array([1.0])).tolist() == [0]


def test_interval_of_a_ratio_is_that_of_its_people() -> None:
    top, bottom = np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 2, 2])
    low, high = ratio_interval(top, bottom, ["a", "a", "b", "b"])
    assert (low, high) == (1.5, 1.75)  # both a, or both b
    assert np.isnan(ratio_interval(top, bottom, ["a"] * 4)).all()
    assert ratio_interval(top, bottom * 0, ["a", "b", "c", "d"]) == pytest.approx((np.nan, np.nan), nan_ok=True)


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
