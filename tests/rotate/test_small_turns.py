"""Heads that hardly turn hardly change, and a film of a turning head does not jump: what both views see alike is never replaced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from visagist import catalog
from visagist.head.render import rasterise
from visagist.photo.photo import Photo
from visagist.training.data import rendered

Turn = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def turned() -> tuple[np.ndarray, np.ndarray, Turn]:
    """A rendered person, where its face is, bool [H, W], and what turns it with the bundled model and skin."""
    loaded = catalog.load("morphable")
    recipe, nets = loaded.recipe, loaded.nets
    skin = catalog.load("texture").nets["skin"].texture()
    view = rendered.view(3, 2026, size=240, yaw=15, pitch=5)
    photo = Photo.of(view.pixels())
    model, found = recipe.model(nets), recipe.fit_face(nets, view.face)
    there = rasterise(found.placed(model.shape(found.identity, found.expression)), model.triangles, photo.size).covered

    def turn(yaw: float, pitch: float = 0.0) -> np.ndarray:
        out: np.ndarray = recipe.rotate(nets, photo, [view.face], skin=skin, turn=(yaw, pitch, 0.0))
        return out.astype(int)

    return photo.pixels.astype(int), there, turn


@pytest.mark.parametrize(("yaw", "pitch"), [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.01)])
def test_the_smallest_turn_changes_next_to_nothing(turned: tuple[np.ndarray, np.ndarray, Turn], yaw: float, pitch: float) -> None:
    pixels, face, turn = turned
    off = np.abs(turn(yaw, pitch) - pixels).max(2)
    assert off[face].mean() < 0.5
    assert off.max() <= 25


def test_a_turning_head_does_not_jump(turned: tuple[np.ndarray, np.ndarray, Turn]) -> None:
    """Around every view a fiftieth of a degree changes little, also at the rim, where skin begins to come from elsewhere."""
    _, face, turn = turned
    for yaw in (-12.0, 0.0, 3.0):
        off = np.abs(turn(yaw + 0.02) - turn(yaw)).max(2)
        assert off[face].mean() < 0.5
        assert np.percentile(off[face], 99.5) <= 4


def test_a_small_face_keeps_its_narrow_parts() -> None:
    """Lips three pixels high lie between openings: they are no speckles."""
    loaded = catalog.load("morphable")
    for who, size in ((9, 48), (12, 48), (15, 64)):
        view = rendered.view(who, 5, size=size, yaw=12, pitch=5)
        photo = Photo.of(view.pixels())
        out = loaded.recipe.rotate(loaded.nets, photo, [view.face], turn=(0.01, 0, 0))
        assert np.abs(out.astype(int) - photo.pixels).max() <= 25
