"""Masks: areas, edges, feathers, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagist.photo.blend import Mask, curve, polygon_mask

SQUARE = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])


def circle(x: float, y: float, radius: float, count: int = 100) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + radius * np.cos(t), y + radius * np.sin(t)], -1)


def test_square_covers_its_pixels() -> None:
    full = polygon_mask(SQUARE, (50, 60)).full((50, 60))
    assert full.dtype == np.float32
    assert (full[10:30, 10:30] == 1).all()
    full[9:31, 9:31] = 0
    assert not full.any()


@given(st.floats(5, 60), st.floats(-20, 120), st.floats(-20, 90))
def test_area_of_a_circle(radius: float, x: float, y: float) -> None:
    full = polygon_mask(circle(x, y, radius), (70, 100)).full((70, 100))
    rows, columns = np.mgrid[:70, :100] + 0.5
    truth = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)
    assert abs(full.sum() - truth.sum()) < 0.03 * truth.sum() + 3
    assert np.abs(full - truth).max() < 0.4


@given(st.floats(0.5, 8), st.floats(-6, 6))
def test_feather(feather: float, grow: float) -> None:
    size = (100, 120)
    mask = polygon_mask(circle(60, 50, 25), size, feather=feather, grow=grow)
    full = mask.full(size)
    distance = np.hypot(*(np.mgrid[:100, :120] + 0.5 - np.array([50, 60])[:, None, None])) - 25 - grow
    assert full.min() >= 0
    assert full.max() <= 1
    assert not full[distance > 3 * feather * 2**0.5 + 3].any()
    assert (full[distance < -3 * feather - 3] > 0.99).all()
    edge = full[np.abs(distance) < 0.5]
    assert abs(edge.mean() - 0.5) < 0.1
    assert (np.diff(full[50, 60:]) <= 1e-6).all()  # falls outwards


@pytest.mark.parametrize(("radius", "size"), [(25, 100), (200, 600), (900, 2400)])
@pytest.mark.parametrize("grow", [-6, -1, 0, 0.5, 2])
def test_grow(radius: float, size: int, grow: float) -> None:
    mask = polygon_mask(circle(size / 2, size / 2, radius, 400), (size, size), grow=grow)
    found = float(np.sqrt(mask.values.sum() / np.pi))
    assert abs(found - radius - grow) < (0.15 if radius < 500 else 0.6)


def test_mask_does_not_end_at_the_photos_border() -> None:
    """A face cut by the border: the feather belongs to the outline, not to the border."""
    cut = polygon_mask(circle(0, 20, 15), (40, 40), feather=3).full((40, 40))
    whole = polygon_mask(circle(30, 20, 15), (40, 80), feather=3).full((40, 80))[:, 30:70]
    assert np.allclose(cut, whole, atol=0.02)
    assert cut[20, 0] > 0.99


def test_holes() -> None:
    hole = np.array([[15.0, 15], [25, 15], [25, 25], [15, 25]])
    full = polygon_mask(SQUARE, (40, 40), holes=[hole]).full((40, 40))
    assert not full[16:25, 16:25].any()
    assert full[12, 12] == 1


def test_outside_and_wild_polygons() -> None:
    for outline in (SQUARE + 1000, SQUARE - 1000):
        assert polygon_mask(outline, (40, 40), feather=2).empty
    huge = polygon_mask((SQUARE - 20) * 1e7, (40, 40), feather=5)
    assert np.allclose(huge.full((40, 40)), 1)
    for bad in (SQUARE[:2], np.full((4, 2), np.nan)):
        with pytest.raises(ValueError, match="outline"):
            polygon_mask(bad, (40, 40))
    assert polygon_mask(np.full((5, 2), 7.3), (40, 40), feather=1).full((40, 40)).max() < 0.1


def test_small_on_a_large_photo_takes_little_memory() -> None:
    tracemalloc.start()
    mask = polygon_mask(circle(2000, 1500, 150), (3000, 4000), feather=9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.values.nbytes < 1e6
    assert peak < 20e6


def test_regions() -> None:
    full = np.zeros((20, 30), np.float32)
    full[5:8, 10:20] = 0.5
    mask = Mask.of(full)
    assert (mask.y0, mask.x0, mask.values.shape) == (5, 10, (3, 10))
    assert mask.region == (slice(5, 8), slice(10, 20))
    assert (mask.full((20, 30)) == full).all()
    assert (mask.times(0.5).full((20, 30)) == full / 2).all()
    assert mask.times(0.5).values.dtype == np.float32
    assert Mask.of(np.zeros((5, 5))).empty
    assert not Mask.of(np.zeros((5, 5))).full((5, 5)).any()


def test_ramp_is_zero_on_the_border_of_the_box() -> None:
    full = np.ones((40, 60), np.float32)
    ramped = Mask.of(full).ramped((10, 5, 50, 35), 3).full((40, 60))
    assert not ramped[:6].any()
    assert not ramped[34:].any()
    assert not ramped[:, :11].any()
    assert not ramped[:, 49:].any()
    assert (ramped[9:31, 14:46] == 1).all()
    assert (np.diff(ramped[20, 5:30]) >= 0).all()


def test_curve_passes_through_its_points() -> None:
    points = circle(50, 50, 20, 12)
    smooth = curve(points, steps=10)
    assert smooth.shape == (120, 2)
    assert np.allclose(smooth[::10], points)
    assert np.abs(np.hypot(*(smooth - 50).T) - 20).max() < 0.1  # the polygon itself is off by 0.7
    lens = np.concatenate([circle(0, -40, 50, 400), circle(0, 40, 50, 400)])
    lens = lens[(np.hypot(lens[:, 0], lens[:, 1] + 40) < 50.01) & (np.hypot(lens[:, 0], lens[:, 1] - 40) < 50.01)]
    corners = np.array([[-30.0, 0], [-15, -7.7], [0, -10], [15, -7.7], [30, 0], [15, 7.7], [0, 10], [-15, 7.7]])
    sharp, round_ = curve(corners, sharp=(0, 4)), curve(corners)
    assert sharp[:, 0].min() >= -30.001  # a corner does not bulge
    assert np.isfinite(curve(np.ones((5, 2)))).all()
    assert abs(round_[1] - corners[0])[1] > abs(sharp[1] - corners[0])[1] - 1
