"""Faces: groups, mirroring, moving, order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagist.photo.face import (
    GROUPS68,
    MIRROR15,
    MIRROR68,
    POINTS15,
    Face,
    Pose,
    box_of_points,
    by_falling_area,
    points15_of,
)


def face(seed: int = 0) -> Face:
    points = np.random.default_rng(seed).uniform(10, 200, (68, 2))
    return Face.of_points(points, pose=Pose(10, -5, 3), score=0.9)


def test_groups_are_the_68_points_once() -> None:
    assert sorted(i for group in GROUPS68.values() for i in group) == list(range(68))
    found = face()
    assert found.points is not None
    assert (found.outer_lips == found.points[48:60]).all()
    assert (found.inner_lips == found.points[60:68]).all()
    assert (found.jaw == found.points[:17]).all()
    with pytest.raises(ValueError, match="needs the 68 points"):
        _ = Face(box=(0, 0, 1, 1)).jaw
    with pytest.raises(ValueError, match="needs the 68 points"):
        _ = Face.of_points(np.ones((15, 2)), "kaggle15").outer_lips


def test_mirror_is_its_own_inverse_and_swaps_sides() -> None:
    assert (MIRROR68[MIRROR68] == np.arange(68)).all()
    for one, other in (("left_eye", "right_eye"), ("left_brow", "right_brow")):
        assert set(MIRROR68[list(GROUPS68[one])]) == set(GROUPS68[other])
    for same in ("jaw", "nose_bridge", "nose_base", "outer_lips", "inner_lips"):
        assert set(MIRROR68[list(GROUPS68[same])]) == set(GROUPS68[same])


@given(st.integers(0, 99), st.integers(1, 4000))
def test_mirrored_twice_is_the_same(seed: int, width: int) -> None:
    once = face(seed).mirrored(width)
    twice = once.mirrored(width)
    original = face(seed)
    assert original.points is not None
    assert twice.points is not None
    assert np.allclose(twice.points, original.points)
    assert np.allclose(twice.box, original.box)
    assert np.allclose(twice.pose or (), original.pose or ())
    assert once.pose == Pose(-10, -5, -3)
    assert np.allclose(once.left_eye[:, 0].mean(), width - original.right_eye[:, 0].mean())
    assert np.allclose(box_of_points(once.points), once.box)  # type: ignore[arg-type]


def test_immutable() -> None:
    array = np.ones((68, 2))
    found = Face.of_points(array)
    array[:] = 5
    assert found.points is not None
    assert found.points.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        found.points[0] = 3
    with pytest.raises(ValueError, match="come together"):
        Face(box=(0, 0, 1, 1), points=np.ones((68, 2)))


def test_box_convention() -> None:
    points = np.array([[10, 20], [30, 60], [20, 40]], float)
    assert box_of_points(points) == pytest.approx((9, 18, 31, 62))


def test_15_points_are_mirrored_in_pairs() -> None:
    assert (MIRROR15[MIRROR15] == np.arange(15)).all() and len(set(POINTS15)) == 15
    points = np.random.default_rng(0).uniform(0, 100, (15, 2))
    found = Face((0, 0, 9, 9), points=points, scheme="kaggle15", spread=np.arange(15.0), doubt="a test")
    once = found.mirrored(100)
    assert once.points is not None and once.spread is not None
    assert np.allclose(once.points[0], (100 - points[1, 0], points[1, 1])) and once.spread[0] == 1
    twice = once.mirrored(100)
    assert np.allclose(twice.points, points) and twice.doubt == "a test"  # type: ignore[arg-type]
    points68 = face().points
    assert points68 is not None
    assert np.allclose(points15_of((points68 * [-1, 1])[MIRROR68]), (points15_of(points68) * [-1, 1])[MIRROR15])


def test_spread_and_doubt_are_told_where_there_are_any() -> None:
    bare = Face(box=(0, 0, 1, 1)).as_dict(1)
    assert "spread" not in bare and "doubt" not in bare
    told = Face(box=(0, 0, 1, 1), spread=np.array([0.123, 2]), doubt="no").as_dict(1)
    assert (told["spread"], told["doubt"]) == ([0.12, 2.0], "no")


def test_moved() -> None:
    found = Face(box=(0, 0, 2, 1), points=np.array([[0.0, 0], [2, 1]]), scheme="kaggle15", pose=Pose(1, 2, 3))
    turned = found.moved(np.array([[0.0, -1, 10], [1, 0, 20]]))
    assert turned.box == (9, 20, 10, 22)
    assert turned.points is not None
    assert turned.points.tolist() == [[10, 20], [9, 22]]
    assert turned.pose is None


def test_order_and_json() -> None:
    small, large, left = Face(box=(9, 0, 10, 1)), Face(box=(0, 0, 5, 5)), Face(box=(3, 0, 4, 1))
    assert by_falling_area([small, large, left]) == (large, left, small)
    text = json.dumps(face().as_dict(3))
    read = json.loads(text)
    assert list(read) == ["index", "label", "box", "score", "points", "scheme", "pose"]
    assert (read["index"], read["label"], read["scheme"], len(read["points"])) == (3, "face", "ibug68", 68)
    assert read["pose"] == {"yaw": 10, "pitch": -5, "roll": 3}
    bare = Face(box=(0, 0, 1, 1)).as_dict(1)
    assert bare["points"] is bare["scheme"] is bare["pose"] is None
