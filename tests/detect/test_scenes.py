"""Scenes: what they ask for is really there, and everything follows from the generator."""

import numpy as np
import pytest

from visagist.detect.scenes import SMALLEST, VISIBLE, pool_of, scene
from visagist.photo.boxes import area, clipped
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item

SIZE = 192


def marked_face(value: int) -> Item:
    """A grey picture whose 'face' is a square of one value, so that a scene can be checked pixel by pixel."""
    pixels = np.full((120, 100, 3), 128, np.uint8)
    pixels[30:90, 25:75] = value
    photo = Photo.of(pixels)
    return Item(f"square {value}", lambda: photo, (Face((25, 30, 75, 90)),), complete=True)


def plain(value: int = 128) -> Item:
    photo = Photo.of(np.full((80, 90, 3), value, np.uint8))
    return Item("plain", lambda: photo)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [marked_face(0), marked_face(255), plain(), plain(100)]


def test_a_scene_follows_from_its_generator(items: list[Item]) -> None:
    a, b = (scene(items, 1, np.random.default_rng((7, 3)), SIZE) for _ in range(2))
    assert (a.photo.pixels == b.photo.pixels).all()
    assert [f.box for f in a.faces] == [f.box for f in b.faces]
    other = scene(items, 1, np.random.default_rng((7, 4)), SIZE)
    assert (a.photo.pixels != other.photo.pixels).any()


def test_faces_asked_for_are_large_enough_and_inside(items: list[Item]) -> None:
    asked = 0
    for seed in range(60):
        for face in scene(items, seed % 4, np.random.default_rng(seed), SIZE).faces:
            if face.label == "face":
                asked += 1
                box = np.array([face.box])
                assert area(box)[0] >= SMALLEST**2 - 1e-6
                assert area(np.array([clipped(face.box, (SIZE, SIZE))]))[0] >= 0.9 * VISIBLE * area(box)[0]
            else:
                assert face.label == "ignore"
    assert asked > 60


def test_the_box_lies_on_the_face() -> None:
    """Black squares on white: the darkest place of every box asked for is its middle, not the ring around it."""
    white = Photo.of(np.full((120, 100, 3), 255, np.uint8))
    items = [marked_face(0), Item("white", lambda: white)]
    good = total = 0
    for seed in range(40):
        made = scene(items, 0, np.random.default_rng(seed), SIZE)
        pixels = made.photo.pixels.mean(-1)
        for face in made.faces:
            x0, y0, x1, y1 = (round(v) for v in clipped(face.box, (SIZE, SIZE)))
            if face.label == "face" and x1 - x0 > 12:
                w, h = x1 - x0, y1 - y0
                middle = pixels[y0 + h // 3 : y1 - h // 3, x0 + w // 3 : x1 - w // 3].mean()
                above, below = pixels[max(0, y0 - 2) : y0, x0:x1], pixels[y1 : y1 + 2, x0:x1]
                total += 1
                good += middle <= np.append(above, below).mean() + 6 if above.size + below.size else True
    assert total > 40 and good >= 0.85 * total


def test_scenes_without_any_face_and_without_any_background() -> None:
    assert scene([plain()], 0, np.random.default_rng(0), SIZE).faces == ()
    only_faces = scene([marked_face(0)], 0, np.random.default_rng(0), SIZE)
    assert any(f.label == "face" for f in only_faces.faces)


def test_an_unlabelled_surrounding_is_ignored(items: list[Item]) -> None:
    from dataclasses import replace

    partial = [replace(items[0], complete=False), plain()]
    labels = [f.label for seed in range(20) for f in scene(partial, 0, np.random.default_rng(seed), SIZE).faces]
    assert labels.count("ignore") > labels.count("face")


def test_pools_are_sorted_and_remembered(items: list[Item]) -> None:
    pool = pool_of(items)
    assert len(pool.with_face) == len(pool.people) == 2 and len(pool.without_face) == 2
    assert pool_of(items) is pool
    assert pool_of(list(items)) is not pool


def test_nothing_to_show() -> None:
    photo = Photo.of(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="faces or complete"):
        scene([Item("unknown", lambda: photo, complete=False)], 0, np.random.default_rng(0), SIZE)
