"""Windows: the geometry of cutting and putting back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagist.photo.blend import Mask, polygon_mask
from visagist.photo.window import Window, similarity

angles, sizes = st.floats(-180, 180), st.floats(20, 200)
centres = st.tuples(st.floats(-20, 120), st.floats(-20, 90))


def noise(height: int = 70, width: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 120, width: int = 160) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9) + np.cos(y / 11), np.sin((x + y) / 13) * 2, np.cos(x / 17 - y / 8) * 2]
    return (np.stack(waves, -1) * 55 + 128).astype(np.uint8)


def test_box_window_shows_exactly_the_box() -> None:
    photo = noise()
    assert (Window.of_box((0, 0, 100, 70), (70, 100)).cut(photo) == photo).all()
    assert (Window.of_box((10, 20, 40, 60), (40, 30)).cut(photo) == photo[20:60, 10:40]).all()
    halves = Window.of_box((0, 0, 100, 70), (35, 50)).cut(photo)
    means = photo.reshape(35, 2, 50, 2, 3).mean((1, 3))
    assert np.abs(halves - means).max() <= 1
    for empty in ((5, 5, 5, 9), (5, 5, 4, 9)):
        with pytest.raises(ValueError, match="empty box"):
            Window.of_box(empty, (10, 10))


def test_mirrored_window_shows_the_mirrored_photo() -> None:
    photo = noise(80, 80)
    plain = Window.turned((40, 40), 80, 80).cut(photo)
    assert (plain == photo).all()
    assert (Window.turned((40, 40), 80, 80, mirror=True).cut(photo) == photo[:, ::-1]).all()
    assert (Window.turned((40, 40), 80, 80, roll=90).cut(photo) == np.rot90(photo)).all()  # tipped clockwise comes out upright


@given(centres, sizes, angles, st.booleans(), st.integers(8, 90))
def test_points_go_there_and_back(centre: tuple[float, float], side: float, roll: float, mirror: bool, size: int) -> None:
    window = Window.turned(centre, side, size, roll=roll, mirror=mirror)
    points = np.random.default_rng(0).uniform(-50, 150, (9, 2))
    assert np.allclose(window.to_photo(window.to_window(points)), points)
    assert np.allclose(window.to_window(np.array(centre)), size / 2)
    assert np.isclose(window.scale, size / side)


@given(centres, sizes, angles, st.booleans(), st.integers(8, 90), st.sampled_from(["replace", "difference"]))
def test_nothing_outside_the_mask_changes(
    centre: tuple[float, float], side: float, roll: float, mirror: bool, size: int, mode: str
) -> None:
    photo = noise()
    window = Window.turned(centre, side, size, roll=roll, mirror=mirror)
    mask = np.zeros((70, 100), np.float32)
    mask[20:50, 30:60] = np.random.default_rng(1).uniform(0, 1, (30, 30)) * (np.random.default_rng(2).uniform(0, 1, (30, 30)) > 0.3)
    patch = np.random.default_rng(3).uniform(-300, 300, (size, size, 3)).astype(np.float32)
    out = window.put(photo, patch, mask, mode=mode)  # type: ignore[arg-type]
    assert out.dtype == np.uint8
    assert (out[mask == 0] == photo[mask == 0]).all()
    assert (window.put(photo, patch, Mask.of(mask), mode=mode) == out).all()  # type: ignore[arg-type]
    assert photo.tolist() == noise().tolist()


@given(centres, sizes, angles, st.integers(8, 90))
def test_no_difference_no_change(centre: tuple[float, float], side: float, roll: float, size: int) -> None:
    photo = noise()
    window = Window.turned(centre, side, size, roll=roll)
    everywhere = np.ones((70, 100), np.float32)
    out = window.put(photo, np.zeros((size, size, 3), np.float32), everywhere, mode="difference")
    assert (out == photo).all()


@given(st.floats(-40, 40), st.floats(60, 90), st.booleans())
def test_cut_and_put_back_is_the_photo(roll: float, side: float, mirror: bool) -> None:
    photo = smooth()
    window = Window.turned((80, 60), side, 128, roll=roll, mirror=mirror)
    inside = polygon_mask(window.to_photo(np.array([[4.0, 4], [124, 4], [124, 124], [4, 124]])), (120, 160))
    out = window.put(photo, window.cut(photo).astype(np.float32), inside)
    assert np.abs(out.astype(int) - photo).max() <= 3


@pytest.mark.parametrize("factor", [0.07, 0.3, 0.5, 0.9, 1.0, 1.4, 3.0])
def test_place_is_kept_at_every_scale(factor: float) -> None:
    """A bright blob stays where it is to a tenth of a pixel of the coarser grid, however the window shrinks or enlarges."""
    y, x = np.mgrid[:300, :400] + 0.5
    blob = np.exp(-((x - 173.3) ** 2 + (y - 141.7) ** 2) / 2 / 25**2).astype(np.float32)
    window = Window.turned((180, 150), 240, round(240 * factor), roll=20)
    seen = window.cut(blob)
    rows, columns = np.mgrid[: seen.shape[0], : seen.shape[1]] + 0.5
    centre = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
    assert np.abs(centre - window.to_window(np.array([173.3, 141.7]))).max() < 0.1 * max(1, factor)


def test_fine_structure_does_not_alias() -> None:
    board = np.indices((400, 400)).sum(0) % 2 * 255
    small = Window.of_box((0, 0, 400, 400), (37, 37)).cut(np.repeat(board[..., None], 3, 2).astype(np.uint8))
    assert np.abs(small.astype(int) - 127).max() < 12


def test_window_past_the_photo() -> None:
    photo = noise()
    far = Window.of_box((500, 500, 600, 600), (8, 8))
    assert (far.cut(photo) == photo[-1, -1]).all()
    assert (far.cut(photo, border=(1, 2, 3)) == (1, 2, 3)).all()
    huge = Window.of_box((-1000, -1000, 1100, 1070), (20, 20))
    assert huge.cut(photo).shape == (20, 20, 3)
    tiny = Window.of_box((0, 0, 1, 1), (5, 5)).cut(np.full((1, 1, 3), 77, np.uint8))
    assert (tiny == 77).all()


def test_grey_and_float_pictures() -> None:
    window = Window.of_box((0, 0, 100, 70), (35, 50))
    assert window.cut(noise()[..., 0]).shape == (35, 50)
    assert window.cut(noise().astype(np.float32)).dtype == np.float32


@given(st.floats(0.05, 20), angles, st.floats(-500, 500), st.floats(-500, 500))
def test_similarity_is_found_again(scale: float, angle: float, dx: float, dy: float) -> None:
    c, s = np.cos(np.deg2rad(angle)) * scale, np.sin(np.deg2rad(angle)) * scale
    true = np.array([[c, -s, dx], [s, c, dy]])
    points = np.random.default_rng(0).uniform(-100, 100, (7, 2))
    assert np.allclose(similarity(points, points @ true[:, :2].T + true[:, 2]), true, atol=1e-6)


def test_similarity_is_the_best_one() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))

    def error(matrix: np.ndarray) -> float:
        return float(((source @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum())

    best = similarity(source, target)
    assert np.isclose(best[0, 0], best[1, 1])
    assert np.isclose(best[0, 1], -best[1, 0])
    for _ in range(200):
        a, b, x, y = rng.normal(scale=0.01, size=4)
        assert error(best + np.array([[a, -b, x], [b, a, y]])) >= error(best)
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)), target[:5])


def test_aligned_window() -> None:
    template = np.array([[20.0, 30], [44, 30], [32, 50]])
    points = template @ np.array([[0.0, 3], [-3, 0]]).T + (200, 100)
    assert np.allclose(Window.aligned(points, template, (64, 64)).to_window(points), template)
