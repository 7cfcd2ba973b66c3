"""What is made of a picture: which yaws, which variations, where the points go, what light does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visagist import catalog
from visagist.head.fit import Fit, annotated_points, turn_of
from visagist.head.morphable import Morphable
from visagist.head.render import rasterise
from visagist.photo.face import Face, Pose
from visagist.recognize.augment import ALIKE, HAIR, Augment, Variation, expressed, relit, shaped

SIZE = (150, 150)
Rendered = tuple[Morphable, np.ndarray, Fit]


@pytest.fixture(scope="module")
def mean_face() -> Rendered:
    """The bundled model's mean face, painted with smooth colours, before a ground of stripes."""
    loaded = catalog.load("morphable", "cpu")
    model = loaded.recipe.model(loaded.nets)
    zeros = np.zeros(len(model.identity)), np.zeros(len(model.expression))
    fit = Fit(5.0, turn_of(Pose(4, 0, 0)), np.array([75.0, 80.0]), *zeros, 0.0)
    seen = rasterise(fit.placed(model.mean), model.triangles, SIZE)
    pixels = np.full((*SIZE, 3), 60, np.uint8)
    pixels[:, ::8] = 90
    paint = 128 + 90 * np.sin(model.mean * (0.5, 0.4, 0.6))
    pixels[seen.covered] = np.rint(seen.spread(paint)[seen.covered])
    return model, pixels, fit


def points_of(model: Morphable, fit: Fit) -> np.ndarray:
    return fit.placed(annotated_points(model, model.shape(fit.identity, fit.expression), fit.turn))[:, :2]


def view(*given: object) -> tuple[np.ndarray, Fit]:
    loaded = catalog.load("morphable", "cpu")
    found: tuple[np.ndarray, Fit] = loaded.recipe.view(loaded.nets, *given)
    return found


@given(st.floats(-80, 80), st.floats(0, 60), st.lists(st.floats(-75, 75), min_size=1, max_size=7))
def test_the_near_view_rule(yaw: float, furthest: float, yaws: list[float]) -> None:
    """A head that is turned away stays on its side and is not brought to the front."""
    found = Augment(yaws=tuple(yaws), furthest=furthest).yaws_for(yaw)
    assert found
    for to in found:
        if to in yaws:
            assert abs(to - yaw) <= furthest + HAIR or to == np.clip(yaw, -75, 75)
        if abs(yaw) > 30:
            assert to * yaw > 0 and abs(to) >= min(abs(yaw) - 10, 75)


def test_seen_at_50_degrees_it_never_looks_straight_or_the_other_way() -> None:
    assert Augment().yaws_for(50) == (45,)
    assert Augment(yaws=(-45, 0, 25), furthest=75).yaws_for(50) == (50,)
    assert Augment().yaws_for(-33) == (-45, -25)
    assert Augment().yaws_for(3) == (-25, 0, 25, 45)
    assert Augment().yaws_for(-0.4) == (-45, -25, 0, 25, 45)  # a turn of 45 degrees is allowed, a fit no better than a degree


@given(st.integers(1, 40), st.floats(-60, 60), st.integers(0, 4), st.integers(0, 3))
@settings(max_examples=40)
def test_variations_are_different_and_none_is_the_picture_itself(most: int, yaw: float, shapes: int, lights: int) -> None:
    augment = Augment(most=most, shapes=shapes, lights=lights)
    found = augment.variations("a.jpg", yaw)
    assert len(set(found)) == len(found) <= most
    assert list(found) == sorted(found)
    assert len({v.name for v in found}) == len(found)
    for v in found:
        assert (v.shape, v.expression, v.light) != (0, "keep", 0) or abs(v.yaw - yaw) >= ALIKE
        assert v.shape <= shapes and v.light <= lights
    assert found == augment.variations("a.jpg", yaw)


def test_yaws_come_as_often_and_names_and_seeds_differ() -> None:
    found = Augment(most=9).variations("a.jpg", 0.0)
    assert sorted({v.yaw: sum(o.yaw == v.yaw for o in found) for v in found}.values()) == [1, 2, 2, 2, 2]
    assert found != Augment(most=9).variations("b.jpg", 0.0)
    assert found != Augment(most=9, seed=1).variations("a.jpg", 0.0)
    assert Variation(-25.0, 3, "smile", 0).name == "yaw-25_s03_smile_l0"
    assert Variation(0.0, 0, "keep", 1).name == "yaw+00_s00_keep_l1"


@pytest.mark.parametrize("wrong", [{"yaws": (90.0,)}, {"expressions": ("grin",)}, {"most": 0}, {"yaws": (float("nan"),)}])
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Augment(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "variation", [Variation(25.0, 0, "keep", 0), Variation(-25.0, 2, "smile", 1), Variation(0.0, 1, "neutral", 0)]
)
def test_points_move_along_with_the_head(mean_face: Rendered, variation: Variation) -> None:
    """A head fitted to the moved points stands where it was asked to stand, and its points within 3 pixels of them."""
    model, pixels, fit = mean_face
    points = points_of(model, fit)
    seen, moved = Augment().rendered(variation, pixels, points, model, fit, view)
    assert seen.shape == pixels.shape and seen.dtype == np.uint8
    loaded = catalog.load("morphable", "cpu")
    again = loaded.recipe.fit_face(loaded.nets, Face.of_points(moved))
    assert abs(again.pose.yaw - variation.yaw) < 3.5
    assert np.linalg.norm(points_of(model, again) - moved, axis=1).mean() < 3


def test_what_the_model_does_not_know_of_a_face_goes_along(mean_face: Rendered) -> None:
    model, pixels, fit = mean_face
    points = points_of(model, fit)
    off = np.random.default_rng(0).normal(0, 1, points.shape)
    plain = Augment().rendered(Variation(25.0, 0, "keep", 0), pixels, points, model, fit, view)[1]
    other = Augment().rendered(Variation(25.0, 0, "keep", 0), pixels, points + off, model, fit, view)[1]
    assert np.allclose(other - plain, off)


def test_other_shapes_lie_where_the_fitted_one_lies(mean_face: Rendered) -> None:
    model, _, fit = mean_face
    assert shaped(0, 0, model, fit) is fit
    shapes = [shaped(0, number, model, fit) for number in (1, 2)]
    assert not np.allclose(shapes[0].identity, shapes[1].identity)
    for one in shapes:
        assert np.abs(one.identity).max() <= 0.75  # half-way to a sample that is clamped at 1.5
        off = points_of(model, one)[17:] - points_of(model, fit)[17:]
        assert np.abs(off.mean(0)).max() < 1e-6
        assert 0 < np.abs(off).mean() < 4


def test_expressions(mean_face: Rendered) -> None:
    model, _, fit = mean_face
    assert expressed("keep", model, fit) is fit.expression
    assert not expressed("neutral", model, fit).any()
    assert expressed("smile", model, fit).any()


def test_light_from_one_side_is_brighter_there(mean_face: Rendered) -> None:
    model, pixels, fit = mean_face
    grey = np.full_like(pixels, 120)
    for number, brighter in ((1, 1), (2, -1)):  # odd lamps stand at the picture's right
        lit = relit(0, number, grey, model, fit).astype(float)
        x, y = points_of(model, fit)[30].astype(int)
        left, right = lit[y - 5 : y + 5, x - 25 : x - 10].mean(), lit[y - 5 : y + 5, x + 10 : x + 25].mean()
        assert (right - left) * brighter > 5
        assert np.abs(lit[[0, -1]] - 120).max() <= 3  # the picture's edge keeps its light
    assert np.array_equal(relit(0, 1, grey, model, fit), relit(0, 1, grey, model, fit))
