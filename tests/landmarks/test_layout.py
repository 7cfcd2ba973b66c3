"""Squares about faces, the mean layout, and what is no face."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.landmarks import layout
from visagist.photo.face import MIRROR15, POINTS15, Face, box_of_points, points15_of
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data import made_up

DRAWN = made_up.items(12, seed=5, size=200)
POINT = {name: i for i, name in enumerate(POINTS15)}


def test_points15_are_points_of_the_68() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (3, 68, 2))
    found = points15_of(points)
    assert found.shape == (3, 15, 2)
    assert np.allclose(found[:, 0], points[:, 42:48].mean(1)) and np.allclose(found[:, 1], points[:, 36:42].mean(1))
    wanted = {
        "left_eye_inner_corner": 42, "left_eye_outer_corner": 45, "right_eye_inner_corner": 39, "right_eye_outer_corner": 36,
        "left_eyebrow_inner_end": 22, "left_eyebrow_outer_end": 26, "right_eyebrow_inner_end": 21, "right_eyebrow_outer_end": 17,
        "nose_tip": 30, "mouth_left_corner": 54, "mouth_right_corner": 48, "mouth_center_top_lip": 51,
        "mouth_center_bottom_lip": 57,
    }  # fmt: skip
    for name, of in wanted.items():
        assert np.array_equal(found[:, POINT[name]], points[:, of])


def test_the_mean_layout_is_symmetric_and_left_is_the_subjects() -> None:
    mean = layout.mean_layout()
    assert np.allclose((mean * [-1, 1])[MIRROR15], mean)
    assert mean[layout.LEFT_EYE, 0] > 0.2 and mean[layout.BOTTOM_LIP, 1] > mean[layout.NOSE, 1] > mean[layout.LEFT_EYE, 1]


def test_the_square_is_the_tight_box_times_its_margin() -> None:
    points = np.array([[10.0, 20.0], [70.0, 100.0], [30.0, 50.0]])
    window = layout.window_of_box(box_of_points(points))
    assert layout.side_of(window) == pytest.approx(1.3 * 80)
    assert np.allclose(window.to_photo(np.array([48.0, 48.0])), (40, 60))
    assert np.allclose(layout.tight(Face((0, 0, 1, 1)), window), (0, 20, 80, 100))
    face = DRAWN[0].faces[0]
    assert face.points is not None
    x0, y0, x1, y1 = layout.tight(face, window)
    assert np.allclose(face.box, box_of_points(np.array([[x0, y0], [x1, y1]])))


def test_points_say_where_their_square_is() -> None:
    mean = (layout.mean_layout() + 1) * 48
    window = layout.window_of_points(mean * 2 + (30, 50))
    assert layout.side_of(window) == pytest.approx(192) and np.allclose(window.to_window(mean * 2 + (30, 50)), mean)
    some = mean * 2 + (30, 50)
    some[5:] = np.nan
    assert np.allclose(layout.window_of_points(some).matrix, window.matrix)
    c, s = np.cos(0.4), np.sin(0.4)
    tipped = (mean - 48) @ np.array([[c, s], [-s, c]]) + (200, 100)
    turned = layout.window_of_points(tipped, turned=True)
    assert np.allclose(turned.to_window(tipped), mean)
    upright = layout.window_of_points(tipped)
    assert np.allclose(upright.matrix[0, 1], 0) and layout.side_of(upright) == pytest.approx(96)
    assert np.allclose(upright.to_photo(np.array([48.0, 48.0])), (200, 100))
    some[1:] = np.nan
    with pytest.raises(ValueError, match="fewer than two"):
        layout.window_of_points(some)


def test_labelled_faces_of_every_kind() -> None:
    item, face = DRAWN[0], DRAWN[0].faces[0]
    assert np.allclose(layout.labelled_window(item, face).matrix, layout.window_of_box(face.box).matrix)
    points = layout.labelled(face)
    assert points is not None and layout.labelled(type(face)(face.box)) is None
    named = type(face)(box_of_points(points), points=points, scheme="kaggle15")
    about, tight = layout.labelled_window(item, named), layout.labelled_window(item, face)
    assert 0.8 < layout.side_of(about) / layout.side_of(tight) < 1.25  # a guess at the same square
    photo = Photo.of(np.zeros((96, 96, 3), np.uint8))
    whole = layout.labelled_window(Item("a", lambda: photo), named)
    assert np.allclose(whole.matrix, np.eye(2, 3))


def test_faces_are_not_doubted() -> None:
    for item in DRAWN:
        points = layout.labelled(item.faces[0])
        assert points is not None and layout.doubt(points, 150) is None
    mean = (layout.mean_layout() + 1) * 48
    for angle in (-45, 45):
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        assert layout.doubt(mean @ np.array([[c, s], [-s, c]]), 96) is None


def test_what_is_no_face_is_doubted() -> None:
    mean = (layout.mean_layout() + 1) * 48
    assert layout.doubt(mean * [1, -1] + (0, 96), 96) == "the eyes are below the mouth"
    assert layout.doubt(mean[MIRROR15], 96) == "left and right are swapped"
    assert layout.doubt(mean * 0.05 + 40, 96) == "the points lie on one spot or line"
    assert layout.doubt(mean * [1, 0.01], 96) == "the points lie on one spot or line"
    lips, nose, gap = mean.copy(), mean.copy(), mean.copy()
    lips[[13, 14]] = lips[[14, 13]]
    nose[10] = (48, 90)
    gap[4] = np.nan
    assert layout.doubt(lips, 96) == "the lower lip is above the upper"
    assert layout.doubt(nose, 96) == "the nose is not between eyes and mouth"
    assert layout.doubt(gap, 96) == "points are missing"
