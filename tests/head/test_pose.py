"""Head pose from points: the signs of the house, and angles recovered from projected heads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visagist.head import pose as head
from visagist.photo.face import Face, Pose


def projected(pose: Pose, *, size: float = 9.0, centre: tuple[float, float] = (140.0, 90.0)) -> np.ndarray:
    """68 points of the generic head in this pose; those the pose does not use lie at the head's centre."""
    points = np.zeros((68, 2))
    points[head._NUMBERS] = (head._HEAD @ head.rotation(pose).T)[:, :2]
    return points * size + np.array(centre)


@settings(max_examples=60, deadline=None)
@given(st.floats(-75, 75), st.floats(-50, 50), st.floats(-179, 179))
def test_pose_of_a_projected_head(yaw: float, pitch: float, roll: float) -> None:
    found = head.pose_of(projected(Pose(yaw, pitch, roll)))
    assert np.abs(head.rotation(found) - head.rotation(Pose(yaw, pitch, roll))).max() < 1e-6


def test_signs() -> None:
    """yaw: nose to the picture's right; pitch: chin and nose up; roll: clockwise as seen."""
    tip, bridge = 30, 27
    still = projected(Pose(0, 0, 0))
    assert (projected(Pose(30, 0, 0))[tip] - still[tip])[0] > 0
    assert (projected(Pose(0, 20, 0))[tip] - still[tip])[1] < 0
    down = projected(Pose(0, 0, 20))
    assert down[45, 1] > down[36, 1]  # the eye at the picture's right sinks
    assert still[bridge, 1] < still[tip, 1]


def test_rotation_is_a_rotation_and_angles_undo_it() -> None:
    pose = Pose(33.0, -12.0, 57.0)
    turn = head.rotation(pose)
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.isclose(np.linalg.det(turn), 1)
    assert np.allclose(head.angles(turn), pose)


def test_mirrored_points_give_the_mirrored_pose() -> None:
    rng = np.random.default_rng(5)
    points = projected(Pose(25, 8, -11)) + rng.normal(0, 1.5, (68, 2))
    face = Face.of_points(points, pose=head.pose_of(points))
    mirrored = face.mirrored(300)
    assert mirrored.points is not None and mirrored.pose is not None
    assert np.allclose(head.pose_of(mirrored.points), mirrored.pose, atol=1e-4)


def test_noise_moves_the_pose_little_and_size_not_at_all() -> None:
    rng = np.random.default_rng(0)
    truth = Pose(-20, 5, 10)
    points = projected(truth)
    noisy = points + rng.normal(0, 0.01 * np.ptp(points), points.shape)
    assert np.abs(np.array(head.pose_of(noisy)) - truth).max() < 4
    assert np.allclose(head.pose_of(noisy * 3.7 + 11), head.pose_of(noisy), atol=1e-4)


def test_coinciding_points_have_no_pose() -> None:
    with pytest.raises(ValueError, match="coincide"):
        head.pose_of(np.ones((68, 2)))
