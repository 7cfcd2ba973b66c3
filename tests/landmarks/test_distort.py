"""Augmentation moves the points with the picture: dots drawn at the points are found where the points went."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.landmarks import distort

SIZE = 112


def dotted(places: np.ndarray) -> np.ndarray:
    """A dark window with a soft bright dot (sigma 1.5 px) at each place [P, 2]."""
    grid = np.arange(SIZE) + 0.5
    out = np.zeros((SIZE, SIZE))
    for x, y in places:
        out = np.maximum(out, np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * 1.5**2)))
    return np.repeat((out * 255).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Centre of brightness within 6 px of a place."""
    grid = np.arange(SIZE) + 0.5
    weight = image[..., 0].astype(float) * ((grid[None] - near[0]) ** 2 + (grid[:, None] - near[1]) ** 2 < 36)
    return np.array([(weight.sum(0) * grid).sum(), (weight.sum(1) * grid).sum()]) / weight.sum()


@pytest.mark.parametrize("seed", range(5))
def test_bent_points_follow_the_picture(seed: int) -> None:
    places = np.array([[30.0, 30.0], [80.0, 34.0], [56.0, 60.0], [38.0, 85.0], [78.0, 82.0]])
    image, moved = distort.bent(dotted(places), places, 2.0, np.random.default_rng(seed))
    assert np.abs(moved - places).max() > 0.5
    for place in moved:
        assert np.linalg.norm(centroid(image, place) - place) < 0.5


def test_sheared_keeps_centre_and_area() -> None:
    matrix = np.array([[2.0, 0.1, 5.0], [-0.1, 2.0, 3.0]])
    out = distort.sheared(matrix, SIZE, 0.1, np.random.default_rng(0))
    centre = np.linalg.solve(matrix[:, :2], np.array([56, 56]) - matrix[:, 2])  # the photo point at the window's centre
    assert np.allclose(out[:, :2] @ centre + out[:, 2], [56, 56])
    assert np.isclose(np.linalg.det(out[:, :2]), np.linalg.det(matrix[:, :2]))


@pytest.mark.parametrize("change", [distort.cut_off, distort.covered, distort.recoloured, distort.degraded])
def test_changes_of_the_picture_keep_type_size_and_the_original(change) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    before = image.copy()
    different = 0
    for seed in range(20):
        out = change(image, np.random.default_rng(seed))
        again = change(image, np.random.default_rng(seed))
        assert out.shape == image.shape and out.dtype == np.uint8
        assert np.array_equal(out, again)
        different += not np.array_equal(out, image)
    assert np.array_equal(image, before)
    assert different >= 10
