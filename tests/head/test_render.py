"""The rasteriser against a slow one, and the harmonic filling against what it must give."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from visagist.head.render import harmonic, rasterise


def slowly(placed: np.ndarray, triangles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Triangle of every pixel, one pixel after the other."""
    out = np.full(size, -1)
    for y in range(size[0]):
        for x in range(size[1]):
            best = np.inf
            for number, corners in enumerate(triangles):
                a, b, c = placed[corners]
                m = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]])
                if np.linalg.det(m) >= -1e-9:  # edge on, or its back
                    continue
                w = np.linalg.solve(m, [x + 0.5, y + 0.5, 1])
                depth = w @ (a[2], b[2], c[2])
                if w.min() >= 0 and depth < best:
                    best, out[y, x] = depth, number
    return out


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_the_same_as_a_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    placed = rng.uniform(-3, 15, (9, 3))
    triangles = np.array([rng.choice(9, 3, replace=False) for _ in range(6)])
    found = rasterise(placed, triangles, (11, 13))
    assert np.array_equal(found.triangle, slowly(placed, triangles, (11, 13)))


def test_quantities_are_spread_linearly() -> None:
    placed = np.array([[0.0, 0, 5], [0, 8, 5], [8, 0, 7]])
    found = rasterise(placed, np.array([[0, 1, 2]]), (8, 8))
    spread = found.spread(placed)
    y, x = np.nonzero(found.covered)
    assert len(y) == 36  # the pixels whose centres lie on or above the diagonal
    assert np.allclose(spread[y, x, :2], np.stack([x, y], 1) + 0.5, atol=1e-5)
    assert np.allclose(found.depth[y, x], spread[y, x, 2], atol=1e-5) and np.isinf(found.depth[7, 7])
    assert not rasterise(placed, np.array([[0, 2, 1]]), (8, 8)).covered.any()  # its back
    assert not rasterise(placed + np.array([99, 0, 0]), np.array([[0, 1, 2]]), (8, 8)).covered.any()  # outside


def test_neighbours_leave_no_gap(egg: dict[str, np.ndarray]) -> None:
    placed = egg["neutral"] * (9.3, -9.3, -9.3) + (80, 100, 0)
    covered = rasterise(placed, egg["triangles"], (200, 160)).covered.astype(np.uint8)
    outlines, _ = cv2.findContours(covered, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    assert len(outlines) == 1  # no hole


def test_harmonic_keeps_what_is_known_and_is_linear_between() -> None:
    known = np.zeros((33, 65), bool)
    known[:, 0] = known[:, -1] = True
    values = np.zeros((33, 65, 2), np.float32)
    values[:, -1] = 64, -32
    found = harmonic(values, known, sweeps=400)
    assert np.array_equal(found[known], values[known])
    assert np.abs(found[..., 0] - np.arange(65)).max() < 0.5
    assert np.abs(found[..., 1] + np.arange(65) / 2).max() < 0.3


def test_harmonic_stays_within_what_is_known() -> None:
    rng = np.random.default_rng(0)
    known = rng.random((40, 50)) < 0.05
    values = rng.uniform(-1, 1, (40, 50, 1)).astype(np.float32)
    found = harmonic(values, known)
    assert found.min() >= values[known].min() - 1e-5 and found.max() <= values[known].max() + 1e-5
    assert np.array_equal(harmonic(values, np.ones((40, 50), bool)), values)
    assert not harmonic(values, np.zeros((40, 50), bool)).any()
