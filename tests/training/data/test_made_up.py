"""Drawn faces: exact points, the same pictures for the same seed, labels that fit what is drawn."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagist.photo.boxes import iou
from visagist.photo.face import MIRROR68
from visagist.training.data import made_up
from visagist.training.data.heads import Head, Look, points68
from visagist.training.data.painting import Canvas, paint


def at(pixels: np.ndarray, point: np.ndarray) -> np.ndarray:
    return pixels[int(point[1]), int(point[0])].astype(float)


def test_a_face_is_where_its_points_say() -> None:
    """Pixels beside the points have the colour of the part they bound."""
    look = Look(skin=(240, 200, 170), lips=(200, 40, 60), mouth_open=0.25, eye_open=0.12, smile=0, contrast=0)
    canvas = Canvas((400, 400), (0, 90, 200))
    head = Head.at(look, (200.0, 190.0), 100.0)
    paint(canvas, head, np.random.default_rng(0))
    pixels, p = canvas.picture(), head.face.points
    assert p is not None

    def near(place: np.ndarray, colour: tuple[float, float, float]) -> bool:
        return bool(np.abs(at(pixels, place) - colour).max() < 30)

    for outer, inner in ((57, 66), (56, 65), (58, 67)):  # between the edges of the lower lip
        assert near((p[outer] + p[inner]) / 2 + (0, 3), look.lips)
        assert near(p[outer] + (0, 4), look.skin)  # below it is skin
    assert not near((p[62] + 3 * p[66]) / 4, look.lips) and not near((p[62] + 3 * p[66]) / 4, look.skin)  # inside is neither
    for corner in (36, 45):
        inwards = p[36:48].mean(0) - p[corner]
        assert at(pixels, p[corner] + inwards * 0.11).min() > 130  # white of the eye
    for jaw in (4, 8, 12):
        inwards = p[30] - p[jaw]
        inwards /= np.linalg.norm(inwards)
        assert near(p[jaw] + inwards * 6, look.skin)
        assert not near(p[jaw] - inwards * 3, look.skin)


@given(seed=st.integers(0, 10_000))
def test_straight_heads_are_symmetric_and_mirrored_poses_mirror(seed: int) -> None:
    rng = np.random.default_rng(seed)
    look = Look.person(rng)
    points = points68(look)
    assert points[MIRROR68] * (-1, 1, 1) == pytest.approx(points, abs=1e-9)
    yaw, pitch, roll = rng.uniform(-30, 30, 3)
    turned = Head.at(Look(yaw=yaw, pitch=pitch, roll=roll), (50.0, 60.0), 20.0).face
    other = Head.at(Look(yaw=-yaw, pitch=pitch, roll=-roll), (50.0, 60.0), 20.0).face
    mirrored = turned.mirrored(100)
    assert mirrored.points == pytest.approx(other.points)
    assert mirrored.pose == pytest.approx(other.pose)


def test_signs_of_the_pose() -> None:
    def nose(**pose: float) -> np.ndarray:
        face = Head.at(Look(**pose), (0.0, 0.0), 100.0).face  # type: ignore[arg-type]
        assert face.points is not None
        return face.points[30] - face.points[[36, 45]].mean(0)

    assert nose(yaw=20.0)[0] > 5  # to the picture's right
    assert nose(pitch=15.0)[1] < nose()[1] - 5  # chin up, nose up
    eyes = Head.at(Look(roll=10.0), (0.0, 0.0), 100.0).face.points
    assert eyes is not None
    assert eyes[45, 1] > eyes[36, 1] + 10  # clockwise as seen: the eye on the right of the picture is lower


@given(seed=st.integers(0, 10_000))
def test_points_are_in_a_sensible_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = points68(Look.person(rng).at_moment(rng))
    assert (np.diff(p[:17, 0]) > 0).all() and (np.diff(p[17:27, 0]) > 0).all() and (np.diff(p[27:31, 1]) > 0).all()
    assert (np.diff(p[48:55, 0]) > 0).all() and (np.diff(p[54:60, 0]) < 0).all()
    assert (p[61:64, 1] <= p[[67, 66, 65], 1]).all()  # upper lip above lower lip
    assert (p[[37, 38, 43, 44], 1] < p[[41, 40, 47, 46], 1]).all()
    assert p[48, 0] < p[60, 0] < p[64, 0] < p[54, 0]
    assert p[48:60, 1].max() < p[8, 1]


def test_faces_look_the_same_for_the_same_seed() -> None:
    a, b = made_up.items(3, 5, size=64), made_up.items(2, 5, size=64)
    for one, two in zip(a, b):
        assert np.array_equal(one.photo.pixels, two.photo.pixels) and np.array_equal(one.faces[0].points, two.faces[0].points)
    assert not np.array_equal(a[0].photo.pixels, a[1].photo.pixels)
    assert a[0].photo is a[0].photo
    pixels, face = made_up.face(np.random.default_rng(3), 80)
    assert pixels.shape == (80, 80, 3) and pixels.dtype == np.uint8 and face.points is not None
    again = pickle.loads(pickle.dumps(a[0].load))
    assert np.array_equal(again().pixels, a[0].photo.pixels)


def test_items_carry_people_and_facts() -> None:
    items = made_up.items(12, 1, people=4)
    assert len({item.person for item in items}) == 4
    assert items[0].person == items[4].person and items[0].faces[0].pose != items[4].faces[0].pose
    assert items[0].facts["eyeglasses"] == items[4].facts["eyeglasses"]
    faces = [item.faces[0] for item in items]
    assert all(0 < face.box[0] and face.box[3] < 128 * 1.02 and face.box[2] - face.box[0] > 40 for face in faces)


def test_scenes_hold_the_faces_they_name() -> None:
    sizes = []
    for item in made_up.items(8, 3, size=160, faces=(0, 5)):
        boxes = np.array([face.box for face in item.faces]).reshape(-1, 4)
        sizes += [len(boxes)]
        assert item.complete and item.photo.size == (160, 160)
        assert (np.triu(iou(boxes, boxes), 1) < 0.01).all()
        assert (boxes > -10).all() and (boxes < 170).all()
    assert 0 in sizes and max(sizes) >= 3
    assert len(made_up.scene(np.random.default_rng(0), (120, 200), 2).faces) == 2


def test_lips_are_painted_and_the_rest_is_not() -> None:
    for item in made_up.lips(6, 3):
        bare = item.photo.pixels.astype(float)
        assert bare.shape == (30, 90, 3)
        glazed, glossy = (item.targets[finish]().pixels.astype(float) for finish in ("glazed", "glossy"))
        lip = np.abs(glazed - bare).max(2) > 10
        assert 0.15 < lip.mean() < 0.8
        assert np.array_equal(bare[0, :3], glazed[0, :3]) and np.array_equal(bare[0, :3], glossy[0, :3])
        saturation = glazed[lip, 0] - glazed[lip, 1:].mean(1)
        assert saturation.mean() > (bare[lip, 0] - bare[lip, 1:].mean(1)).mean() + 20
        assert glossy[lip].mean() > bare[lip].mean()


def test_shapes_are_labelled_and_repeatable() -> None:
    items, again = made_up.shapes(60, 3), made_up.shapes(20, 3)
    labels = [face.label for item in items for face in item.faces]
    assert set(labels) == set(made_up.SHAPES) and min(labels.count(name) for name in made_up.SHAPES) > 10
    for item, other in zip(items, again):
        assert np.array_equal(item.photo.pixels, other.photo.pixels)
        assert [f.box for f in item.faces] == [f.box for f in other.faces]
    for item in items:
        boxes = np.array([face.box for face in item.faces])
        assert len(boxes) and item.complete
        assert (iou(boxes, boxes) == np.eye(len(boxes))).all()
        assert boxes.min() >= 0 and boxes.max() <= 128


def test_a_circle_is_as_round_as_its_box_says() -> None:
    """Inside the outline it has one colour, in the corners of its box another."""
    seen = 0
    for item in made_up.shapes(40, 5):
        for face in item.faces:
            if face.label != "face":
                x0, y0, x1, y1 = face.box
                pixels = item.photo.pixels
                middle = at(pixels, np.array([(x0 + x1) / 2, (y0 + y1) / 2]))
                near, far = (at(pixels, np.array([x0, y0]) + share * np.array([x1 - x0, y1 - y0])) for share in (0.2, 0.08))
                assert np.abs(near - middle).max() < 40
                if face.label == "circle" and x1 - x0 > 24:
                    assert np.abs(far - middle).max() > 40
                    seen += 1
    assert seen > 5
