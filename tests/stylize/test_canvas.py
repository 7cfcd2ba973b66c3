"""Sizes, noise, colours and masks of the canvas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from visagist.photo.face import Face
from visagist.stylize import canvas


def floats(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 127.5 - 1


def chroma(picture: np.ndarray) -> np.ndarray:
    """Cb and Cr of [H, W, 3] in [-1, 1], in levels of 0..255 (ITU-R BT.601)."""
    levels = (picture.astype(np.float64) + 1) * 127.5
    y = levels @ canvas.LUMA
    return np.stack([(levels[..., 2] - y) / 1.772, (levels[..., 0] - y) / 1.402], 2)


@pytest.mark.parametrize(
    ("size", "long", "wanted"),
    [
        ((768, 1024), 512, (384, 512)),
        ((1024, 768), 512, (512, 384)),
        ((100, 100), 512, (512, 512)),
        ((300, 1000), 512, (224, 747)),  # the shorter side is kept at 224
        ((100, 2000), 512, (114, 2290)),  # unless that takes more than 512² pixels
        ((50, 100), 128, (91, 181)),
    ],
)
def test_sizes(size: tuple[int, int], long: int, wanted: tuple[int, int]) -> None:
    assert canvas.fitted(size, long) == wanted


@pytest.mark.parametrize(
    ("size", "long", "wanted"),
    [((768, 1024), 512, (384, 512)), ((100, 2000), 512, (224, 4480)), ((50, 100), 128, (224, 448))],
)
def test_sizes_of_the_program(size: tuple[int, int], long: int, wanted: tuple[int, int]) -> None:
    """max(length / long side, 224 / short side), however many pixels that makes."""
    assert canvas.fitted(size, long, capped=False) == wanted


@given(st.integers(1, 30000), st.integers(1, 30000), st.integers(16, 4000), st.sampled_from([1, 16, 32]))
@settings(max_examples=200, deadline=None)
def test_sizes_stay_within_reason(height: int, width: int, long: int, least: int) -> None:
    h, w = canvas.fitted((height, width), long, least=least)
    assert min(h, w) >= least
    assert h * w <= max(long**2 + h + w, least * max(h, w))


def test_pictures_are_brought_to_a_size_within_the_range() -> None:
    picture = floats(skimage.data.chelsea())
    for size in ((30, 45), (600, 700), (16, 16)):
        out = canvas.resized(picture, size)
        assert out.shape == (*size, 3)
        assert out.min() >= -1
        assert out.max() <= 1
    assert canvas.resized(picture, picture.shape[:2]) is picture
    small = canvas.floated(skimage.data.chelsea(), (30, 45))
    np.testing.assert_allclose(small, canvas.resized(picture, (30, 45)), atol=0.006)
    np.testing.assert_allclose(canvas.floated(skimage.data.chelsea(), (9999, 45)), picture, atol=1e-6)


@pytest.mark.parametrize("power", [0.0, -1.0, -2.0])
def test_noise_has_the_spectrum_it_should(power: float) -> None:
    """The steeper the spectrum, the smoother the noise; the same seed gives the same noise."""
    made = canvas.noise((64, 96), power, np.random.default_rng(3))
    assert made.shape == (64, 96, 3)
    assert (made.min(), made.max()) == (-1, 1)
    np.testing.assert_array_equal(made, canvas.noise((64, 96), power, np.random.default_rng(3)))
    steps = np.abs(np.diff(made, axis=1)).mean() / made.std()
    assert {0.0: 0.9 < steps < 1.3, -1.0: 0.5 < steps < 0.9, -2.0: steps < 0.4}[power]


def test_a_matched_style_has_the_mean_and_covariance_of_the_photo() -> None:
    # pictures of middling contrast, so that nothing is clipped
    style, content = floats(skimage.data.astronaut()) * 0.3, floats(skimage.data.chelsea()) * 0.4
    matched = canvas.recoloured(style, content)
    assert matched.shape == style.shape
    a, b = matched.reshape(-1, 3), content.reshape(-1, 3)
    np.testing.assert_allclose(a.mean(0), b.mean(0), atol=5e-3)
    np.testing.assert_allclose(np.cov(a.T), np.cov(b.T), atol=5e-3)


@pytest.mark.parametrize("flat", ["style", "content", "both"])
def test_matching_grey_and_flat_pictures_makes_sense(flat: str) -> None:
    grey = np.repeat(floats(skimage.data.chelsea())[..., :1], 3, 2)
    nothing = np.full((8, 8, 3), 0.2, np.float32)
    style, content = (nothing if flat in (name, "both") else grey for name in ("style", "content"))
    matched = canvas.recoloured(style, content)
    assert np.isfinite(matched).all()
    assert np.abs(matched.mean((0, 1)) - content.mean((0, 1))).max() < 0.05


def test_kept_colours_are_the_photos() -> None:
    rng = np.random.default_rng(0)
    content, painted = floats(skimage.data.chelsea()), rng.uniform(-1, 1, (300, 451, 3)).astype(np.float32)
    kept = canvas.with_colours_of(content, painted)
    assert kept.min() >= -1 - 1e-5
    assert kept.max() <= 1 + 1e-5
    assert np.abs(chroma(kept) - chroma(content)).max() < 0.05
    middle = np.abs(content).max(2) < 0.4  # where there is room for it, the luminance is the painted one
    got, wanted = (p @ canvas.LUMA for p in (kept, painted * 0.3))
    np.testing.assert_allclose(canvas.with_colours_of(content, painted * 0.3)[middle] @ canvas.LUMA, wanted[middle], atol=1e-4)
    assert got.shape == wanted.shape


def test_masks_lie_on_faces_and_fade() -> None:
    face = Face((40.0, 20.0, 80.0, 70.0))
    mask = canvas.face_mask([face], (100, 120), (1.0, 1.0))
    assert mask.shape == (100, 120)
    assert mask[45, 60] == pytest.approx(1)
    assert mask[20, 40] < 1e-3  # the corner of the box
    assert 0 < mask[45, 40] < 1
    assert mask[45, 30] == 0
    half = canvas.face_mask([face], (50, 60), (0.5, 0.5))
    assert half[22, 30] == pytest.approx(1)
    assert float(half.sum()) == pytest.approx(float(mask.sum()) / 4, rel=0.05)
    assert not canvas.face_mask([], (10, 10), (1.0, 1.0)).any()


def test_a_face_with_points_reaches_from_chin_to_forehead() -> None:
    turns = np.linspace(np.pi, 0, 17)
    points = np.zeros((68, 2))
    points[:17] = np.stack([60 + 30 * np.cos(turns), 50 + 40 * np.sin(turns)], 1)  # ear to ear through the chin at y = 90
    points[17:27] = np.stack([np.linspace(38, 82, 10), np.full(10, 40.0)], 1)  # brows
    points[27:] = 60, 60
    mask = canvas.face_mask([Face.of_points(points)], (120, 120), (1.0, 1.0))
    assert mask[88, 60] > 0.3
    assert mask[60, 60] == pytest.approx(1)
    assert mask[25, 60] == pytest.approx(1, abs=0.05)  # forehead
    assert mask[5, 60] < 1e-3
    assert mask[100, 60] < 1e-3


def test_tempered_keeps_strokes_and_gives_light_and_shade_back() -> None:
    y, x = np.mgrid[:120, :160].astype(np.float32)
    toned = np.repeat((0.4 * np.sin(y / 30) * np.cos(x / 40))[..., None], 3, axis=2)
    strokes = 0.1 * np.sin(2.5 * x + y)[..., None]
    made = canvas.tempered(np.clip(1.8 * toned + strokes, -1, 1), toned)
    slow = cv2.GaussianBlur(made, (0, 0), 6)
    assert np.abs(slow - cv2.GaussianBlur(toned, (0, 0), 6)).mean() < 0.06  # a contrast too high by 0.13 on average
    assert np.corrcoef((made - slow).ravel(), np.repeat(strokes, 3, axis=2).ravel())[0, 1] > 0.9
    assert np.abs(canvas.tempered(toned, toned) - toned).max() < 1e-6


def test_what_burnt_out_comes_back() -> None:
    toned = np.random.default_rng(0).uniform(-0.3, 0.6, (60, 80, 3)).astype(np.float32)
    burnt = np.ones_like(toned)
    made = canvas.tempered(burnt, toned)
    assert np.corrcoef(made.ravel(), toned.ravel())[0, 1] > 0.9
    orange = np.broadcast_to(np.float32([1, 0.2, -1]), (60, 80, 3))
    assert np.abs(canvas.tempered(orange, orange * 0.9) - orange * 0.9).max() < 0.1  # a saturated colour is none
