"""The weights of style transfer that come with the package: they paint, and they are as small as they should be."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data

from visagist import catalog
from visagist.photo.photo import Photo
from visagist.stylize.gatys import Progress
from visagist.systems import PAINTINGS

CAT = Photo.of(np.ascontiguousarray(skimage.data.chelsea()[40:280, 60:380]))


def painting(name: str) -> np.ndarray:
    return Photo.open(catalog.painting(name) or "").pixels


@pytest.mark.parametrize(("name", "megabytes"), [("perceptual", 8), *((f"fast-style-{name}", 2) for name in PAINTINGS)])
def test_files_are_small(name: str, megabytes: int) -> None:
    assert catalog.load(name, "cpu").file.stat().st_size <= megabytes * 1e6


@pytest.mark.parametrize("half", [False, True])
def test_the_feature_network_leads_to_a_painting(half: bool) -> None:
    """The style term falls to a fraction in twenty iterations, and the photo is not given up."""
    loaded = catalog.features("perceptual", "cpu")
    heard: list[Progress] = []
    recipe: Any = catalog.recipe("gatys", size=80, iterations=20, coarsest=0)
    half = half and loaded.half  # where the machine has bfloat16
    painted = recipe.stylize(loaded.nets, CAT, [painting("starry-night")], half=half, progress=heard.append)
    styles = [sum(value for name, value in p.terms.items() if name.startswith("style")) for p in heard]
    assert styles[-1] < 0.2 * styles[0]
    assert heard[-1].terms["content conv4_1"] < 1.5  # an empty picture has 1
    assert heard[-1].loss < 0.3 * heard[0].loss
    assert np.abs(painted.mean((0, 1)) - painting("starry-night").mean((0, 1))).max() < 10


@pytest.mark.parametrize("name", PAINTINGS)
def test_a_painter_paints_like_its_painting(name: str) -> None:
    """Something else than the photo, in the painting's colours, with the photo's shapes still in it."""
    loaded = catalog.load(f"fast-style-{name}", "cpu", verb="stylize")
    with loaded.inference():
        painted = loaded.recipe.stylize(loaded.nets, CAT, size=96).astype(float)
    assert np.isfinite(painted).all() and painted.shape == (72, 96, 3)
    photo = cv2.resize(CAT.pixels, (96, 72), interpolation=cv2.INTER_AREA).astype(float)
    apart = [np.abs(p.mean((0, 1)) - painting(name).mean((0, 1))).max() for p in (painted, photo)]
    assert apart[0] < 0.7 * apart[1]
    assert np.abs(painted - photo).mean() > 20
    assert np.corrcoef(painted.mean(2).ravel(), photo.mean(2).ravel())[0, 1] > 0.15
