"""A new light goes on over scalp, ears and neck, and ends where the head does: on rendered people, whose every pixel is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from visagist import catalog
from visagist.head.fit import fit
from visagist.head.light import LUMINANCE, linear
from visagist.head.morphable import Morphable
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.rotate.around import Head, matte
from visagist.rotate.relief import Relief
from visagist.rotate.shading import Shading
from visagist.training.data import rendered
from visagist.training.data.persons import Person

SIZE = 240


@pytest.fixture(scope="module")
def model() -> Morphable:
    loaded = catalog.load("morphable")
    made: Morphable = loaded.recipe.model(loaded.nets)
    return made


@pytest.fixture(scope="module")
def bust() -> Morphable:
    loaded = catalog.load("morphable-head")
    made: Morphable = loaded.recipe.model(loaded.nets)
    return made


@dataclass(frozen=True, eq=False)
class Bald:
    """pixels uint8 [H, W, 3]; skin and ground: which pixels show skin, and what is behind; face: where the narrow face is."""

    pixels: np.ndarray
    skin: np.ndarray
    ground: np.ndarray
    points: np.ndarray
    relief: Relief

    def gain(self, lit: np.ndarray) -> np.ndarray:
        """Logarithm of the change of linear light, [H, W]."""
        new, old = (cv2.blur(linear(one) @ np.array(LUMINANCE, np.float32), (5, 5)) for one in (lit, self.pixels))
        made: np.ndarray = np.log(np.maximum(new, 0.002) / np.maximum(old, 0.002))
        return made


@pytest.fixture(scope="module")
def bald(model: Morphable, bust: Morphable) -> Callable[[int], Bald]:
    @cache
    def draw(seed: int) -> Bald:
        rng = np.random.default_rng(seed)
        person = replace(Person.drawn(rng), style="bald", beard="none")
        view = rendered.View.of(person, rng, SIZE, yaw=15, pitch=8)
        pixels, kind = view.drawn()
        assert view.face.points is not None
        found = fit(model, view.face.points)
        head = Head.of(bust, model, found)
        told = Shading(apart=45).relief(model, Photo.of(pixels), view.face.points, found, head=head)
        skin = cv2.erode((kind == 1).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        ground = cv2.erode((kind == 0).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
        return Bald(pixels, skin, ground, view.face.points, told)

    return draw


SEEDS = (3, 5, 7)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_scalp_gets_the_light_that_the_forehead_gets(bald: Callable[[int], Bald], seed: int) -> None:
    one = bald(seed)
    _, there = one.relief.laid(one.relief.change, one.pixels.shape[:2])
    brows = one.points[17:27, 1].min()
    y, x = np.mgrid[:SIZE, :SIZE]
    upper = one.skin & (y < brows)
    scalp = upper & ~(cv2.dilate(there.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    middle = one.points[27:31, 0].mean()
    assert scalp.sum() > 500
    for azimuth, dark in ((60, scalp & (x < middle)), (-60, scalp & (x > middle))):
        gain = one.gain(one.relief.relit(one.pixels, azimuth, 20))
        short = one.gain(replace(one.relief, head=None).relit(one.pixels, azimuth, 20))
        light = scalp & ~dark
        assert gain[light].mean() - gain[dark].mean() > 0.25
        assert gain[dark].mean() < short[dark].mean() - 0.1  # the face's patch faded there
        near = cv2.dilate(dark.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        forehead = there & upper & near
        beside = dark & (cv2.dilate(forehead.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0)
        assert abs(gain[forehead].mean() - gain[beside].mean()) < 0.15  # no step where the face of the model ends


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_behind_the_head_stays(bald: Callable[[int], Bald], seed: int) -> None:
    one = bald(seed)
    for light in ((60, 20), (-60, 20), (0, 60)):
        change = np.abs(one.relief.relit(one.pixels, *light).astype(int) - one.pixels).max(2)
        assert change[one.ground].mean() < 0.5 and (change[one.ground] > 12).mean() < 0.005
        assert change[one.skin & (np.arange(SIZE)[:, None] < one.points[8, 1])].mean() > 8


def test_strength_and_borders(bald: Callable[[int], Bald], model: Morphable, bust: Morphable) -> None:
    one = bald(3)
    assert np.array_equal(one.relief.relit(one.pixels, 60, 20, strength=0.0), one.pixels)
    top = int(one.points[17:27, 1].min()) - 12
    cut, points = np.ascontiguousarray(one.pixels[top:]), one.points - (0, top)
    found = fit(model, points)
    told = Shading(apart=45).relief(model, Photo.of(cut), points, found, head=Head.of(bust, model, found))
    lit = told.relit(cut, 60, 20)
    assert lit.shape == cut.shape and (lit != cut).any()
    large = cv2.resize(one.pixels, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    found = fit(model, 3 * one.points)
    told = Shading(apart=45).relief(model, Photo.of(large), 3 * one.points, found, head=Head.of(bust, model, found))
    small = cv2.resize(told.relit(large, 60, 20), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - one.relief.relit(one.pixels, 60, 20)).mean() < 3  # the photo's size matters little


def test_the_bust_goes_with_the_face(model: Morphable, bust: Morphable) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        identity = 0.8 * rng.standard_normal(len(model.identity))
        points = model.shape(identity)[model.landmarks][:, :2] * (10, -10) + 200
        found = fit(replace(model, offsets=None), points)
        head = Head.of(bust, model, found)
        face = found.placed(model.shape(found.identity, found.expression))
        assert np.linalg.norm((head.placed[: len(face)] - face) / found.scale, axis=1).mean() < 0.5  # centimetres
        assert not head.skull[: len(face)].any() and head.skull.sum() > 1000 and head.head[head.skull].all()
        placed = head.within(Window(np.array([[0.5, 0, -3], [0, 0.5, 7]]), (9, 9))).placed
        assert np.allclose(placed, head.placed / 2 + (-3, 7, 0))
        normals, there, skull = head.drawn((400, 400))
        assert np.allclose(np.linalg.norm(normals, axis=2), 1) and (skull <= there).all() and there.mean() > 0.1
        assert normals[skull][:, 1].mean() > 0.2  # a scalp looks up


def test_a_matte_ends_at_edges() -> None:
    y, x = np.mgrid[:120, :120]
    far = np.hypot(x - 60, y - 60)
    face, head, skull = far < 24, far < 46, (far < 46) & (y < 45)  # a bust that is larger than the head, 40 pixels
    picture = np.repeat(np.where(far < 40, 0.7, 0.4)[..., None], 3, axis=2)
    share = matte(picture, face, head, skull, 6.0)
    assert share.shape == face.shape and 0 <= share.min() and share.max() <= 1
    assert share[far < 38].min() > 0.9 and share[far > 43].max() < 0.1
    assert matte(np.full_like(picture, 0.5), face, head, skull, 6.0)[far > 56].max() == 0


def test_reliefs_know_their_head(bust: Morphable, bald: Callable[[int], Bald]) -> None:
    one = bald(3)
    loaded: Any = catalog.load("morphable")
    from visagist.photo.face import Face

    face = [Face.of_points(one.points)]
    made = {"turner": loaded.recipe}
    with loaded.inference():
        (whole,) = Shading(apart=45, rounds=1).reliefs(loaded.nets, Photo.of(one.pixels), face, bust=bust, **made)
        (alone,) = Shading(apart=45, rounds=1).reliefs(loaded.nets, Photo.of(one.pixels), face, **made)
    assert whole.head is not None and alone.head is None and np.array_equal(whole.change, alone.change)
