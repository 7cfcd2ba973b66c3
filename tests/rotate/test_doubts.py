"""What is said of faces that turn badly: a mouth wide open, dark glasses, a border that cuts them, points that fit badly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from visagist import catalog
from visagist.photo.face import Pose
from visagist.photo.photo import Photo
from visagist.rotate.doubts import doubts
from visagist.training.data import rendered
from visagist.training.data.rendered import View


def told(view: View) -> str:
    loaded = catalog.load("morphable")
    found = loaded.recipe.fit_face(loaded.nets, view.face)
    return " ".join(loaded.recipe.doubts(loaded.nets, Photo.of(view.pixels()), found))


@pytest.fixture(scope="module")
def view() -> View:
    """Somebody who looks straight on with a closed mouth."""
    one = rendered.view(3, 77, size=112, yaw=10, pitch=5)
    return posed(one, "", {})


def posed(view: View, glasses: str, expression: dict[str, float]) -> View:
    person, moment = replace(view.person, glasses=glasses), replace(view.moment, pose=Pose(6, -2, 0), expression=expression)
    return View.at(person, moment, 112, 0.6, (56, 56))


def test_a_usual_face_is_not_doubted(view: View) -> None:
    for glasses, expression in (("", {}), ("square", {}), ("", {"mouthSmile": 0.8}), ("", {"jawOpen": 0.25})):
        assert told(posed(view, glasses, expression)) == ""


def test_a_mouth_wide_open_and_dark_glasses(view: View) -> None:
    assert "wide open" in told(posed(view, "", {"jawOpen": 0.9}))
    assert "dark glasses" in told(posed(view, "dark", {}))
    both = told(posed(view, "dark", {"jawOpen": 0.9}))
    assert "wide open" in both and "dark glasses" in both


def test_a_mouth_that_opens_wider_than_a_jaw_does(view: View) -> None:
    loaded = catalog.load("morphable")
    recipe, nets = loaded.recipe, loaded.nets
    for weight, caricature in ((1.0, False), (1.5, True), (2.0, True)):
        (made,) = recipe.turns(nets, [view.face], expression={"jawOpen": weight})
        told = recipe.doubts(nets, Photo.of(view.pixels()), made.found, made.to)
        assert any("wider than a jaw" in one for one in told) == caricature


def test_points_that_fit_badly(view: View) -> None:
    loaded = catalog.load("morphable")
    model = loaded.recipe.model(loaded.nets)
    found = loaded.recipe.fit_face(loaded.nets, view.face)
    assert doubts(model, found) == ()
    assert "fit a head badly (error 0.09" in doubts(model, replace(found, error=0.09))[0]
    assert doubts(model, found, np.zeros((112, 112, 3), np.uint8)) == ()  # all dark: nothing is darker than the rest


def test_a_face_that_the_border_cuts(view: View) -> None:
    loaded = catalog.load("morphable")
    found, pixels = loaded.recipe.fit_face(loaded.nets, view.face), view.pixels()
    x0, y0, x1, y1 = np.array(view.face.box).round().astype(int)
    for left, top, right, bottom in ((x0 + 12, 0, 112, 112), (0, y0 + 15, 112, 112), (0, 0, x1 - 12, 112), (0, 0, 112, y1 - 10)):
        cut = replace(found, shift=found.shift - (left, top))
        (said,) = loaded.recipe.doubts(loaded.nets, Photo.of(pixels[top:bottom, left:right]), cut)
        assert "the photo's border cuts the face" in said
    assert told(view) == ""
