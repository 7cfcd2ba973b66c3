"""Paint on photos: it stays on the lips, leaves no seam, reaches every face, and survives odd mouths."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visagist.errors import FaceError, UsageError
from visagist.makeup import composition, matte, tint
from visagist.makeup.lipstick import Lips, Lipstick
from visagist.makeup.mouth import Mouth
from visagist.photo.blend import polygon_mask
from visagist.photo.face import Face
from visagist.photo.photo import Photo

ALL = ("glazed", "glossy", "tint")


class Redden(Lips):
    """A stand-in that needs no training: more red, less green and blue, and blurred as a trained network blurs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + torch.tensor([0.4, -0.3, -0.3])[:, None, None]


def paint(pixels: np.ndarray, faces: list[Face], finish: str = "glazed", **more: Any) -> np.ndarray:
    nets = {name: Redden(raw=False) for name in ("glazed", "glossy")}
    return Lipstick().makeup(nets, Photo.of(pixels), faces, finish=finish, **more)


def change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(after.astype(int) - before).mean(-1)


@pytest.mark.parametrize("finish", ALL)
@pytest.mark.parametrize("opening", [0.0, 0.3])
def test_lips_change_and_nothing_else_does(drawn: ModuleType, finish: str, opening: float) -> None:
    face = drawn.face((150, 120), 100, opening=opening)
    before = drawn.picture((240, 300), [face], grain=3)
    kept = before.copy()
    after = paint(before, [face], finish)
    assert np.array_equal(before, kept)
    assert after.dtype == np.uint8
    far = polygon_mask(face.outer_lips, before.shape[:2], grow=9).full(before.shape[:2]) == 0
    assert np.array_equal(after[far], before[far])
    deep = polygon_mask(face.outer_lips, before.shape[:2], holes=[face.inner_lips], grow=-4).full(before.shape[:2]) == 1
    assert change(before, after)[deep].mean() > 12


@pytest.mark.parametrize("finish", ALL)
def test_an_open_mouth_keeps_its_teeth(drawn: ModuleType, finish: str) -> None:
    """Between the lips at most a tenth of the change on the lips; where points are off, teeth stay teeth by their colour."""
    for opening in (0.1, 0.25, 0.5):
        face = drawn.face((150, 130), 110, opening=opening)
        before = drawn.picture((280, 300), [face], grain=3)
        between = polygon_mask(face.inner_lips, before.shape[:2]).full(before.shape[:2]) > 0
        lips = polygon_mask(face.outer_lips, before.shape[:2], holes=[face.inner_lips]).full(before.shape[:2]) == 1
        for shift in (0, 4):
            moved = Face.of_points(face.points + np.array([0, shift]))
            moved_change = change(before, paint(before, [moved], finish))
            assert moved_change[between].mean() <= 0.1 * moved_change[lips].mean() + (0.5 if shift else 0)


@pytest.mark.parametrize("finish", ALL)
@pytest.mark.parametrize("width", [20, 90, 400])
def test_no_seam_shows_at_the_border_of_the_box(drawn: ModuleType, finish: str, width: int) -> None:
    """On skin of one colour, so that every step is the paint's: at most one grey level from outside to inside the box."""
    face = drawn.face((width * 0.9 + 0.3, width * 0.7), width)
    before = np.full((int(width * 1.5), int(width * 1.9), 3), drawn.SKIN, np.uint8)
    after = paint(before, [face], finish, shade="#2030c0").astype(int)
    assert change(before, after).max() > 10  # the lips are painted all the same
    x0, y0, x1, y1 = *np.floor(face.points[48:61].min(0)).astype(int), *np.ceil(face.points[48:61].max(0)).astype(int)
    rows, columns = slice(y0 - 3, y1 + 3), slice(x0 - 3, x1 + 3)
    for a, b in ((x0 - 1, x0), (x1, x1 - 1)):
        assert np.abs(after[rows, a] - after[rows, b]).max() <= 1
    for a, b in ((y0 - 1, y0), (y1, y1 - 1)):
        assert np.abs(after[a, columns] - after[b, columns]).max() <= 1


def test_points_that_are_off_are_corrected_by_the_colours(drawn: ModuleType) -> None:
    face = drawn.face((150, 120), 120)
    before = drawn.picture((240, 300), [face], grain=3)
    size = before.shape[:2]
    lips = polygon_mask(face.outer_lips, size, grow=-2).full(size) == 1
    skin = polygon_mask(face.outer_lips, size, grow=3).full(size) == 0
    for shift in ((0, 5), (0, -5), (6, 0), (-4, 3)):
        moved = Mouth.of(Face.of_points(face.points + np.array(shift)), size)
        assert moved is not None
        found = matte.find(moved, before)
        values = found.mask().full(size)
        assert found.sure > 0.9
        assert values[lips].mean() > 0.9
        assert values[skin].max() < 0.25


def test_lips_of_the_skins_colour_are_left_to_the_points(drawn: ModuleType) -> None:
    face = drawn.face((150, 120), 120)
    before = drawn.picture((240, 300), [face], grain=4, lip=drawn.SKIN)
    mouth = Mouth.of(face, before.shape[:2])
    assert mouth is not None
    found = matte.find(mouth, before)
    assert found.sure == 0
    inside = polygon_mask(face.outer_lips, before.shape[:2], grow=-5).full(before.shape[:2]) == 1
    assert found.mask().full(before.shape[:2])[inside].min() > 0.9


@pytest.mark.parametrize("finish", ALL)
def test_texture_of_the_photo_survives(drawn: ModuleType, finish: str) -> None:
    """Fine grain of the lips is as strong after as before: the paint is no blurred patch."""
    face = drawn.face((500, 400), 600)
    before = drawn.picture((800, 1000), [face], grain=6)
    after = paint(before, [face], finish)
    row = slice(470, 490), slice(400, 600)
    grain_before = np.diff(before[row].mean(-1), axis=1).std()
    grain_after = np.diff(after[row].mean(-1), axis=1).std()
    assert 0.7 < grain_after / grain_before < 1.4


def test_every_face_is_painted(drawn: ModuleType) -> None:
    faces = [drawn.face((90, 80), 80), drawn.face((230, 150), 60, opening=0.2)]
    before = drawn.picture((240, 300), faces, grain=2)
    both = paint(before, faces)
    for face in faces:
        alone = paint(before, [face])
        region = polygon_mask(face.outer_lips, before.shape[:2], grow=6).full(before.shape[:2]) > 0
        assert change(before, both)[region].mean() > 5
        assert np.array_equal(both[region], alone[region])


def test_a_tilted_face_is_painted_like_a_level_one(drawn: ModuleType) -> None:
    for roll in (-70, 30, 180):
        face = drawn.face((150, 150), 110, roll=roll)
        before = drawn.picture((300, 300), [face], grain=2)
        lips = polygon_mask(face.outer_lips, (300, 300), grow=-4).full((300, 300)) == 1
        far = polygon_mask(face.outer_lips, (300, 300), grow=9).full((300, 300)) == 0
        moved = change(before, paint(before, [face]))
        assert moved[lips].mean() > 15
        assert moved[far].max() == 0


@pytest.mark.parametrize("finish", ALL)
@pytest.mark.parametrize("centre", [(0, 100), (290, 120), (150, 0), (150, 239), (-30, 230)])
def test_a_mouth_that_leaves_the_photo_is_painted_as_far_as_it_is_there(
    drawn: ModuleType, finish: str, centre: tuple[float, float]
) -> None:
    face = drawn.face(centre, 100)
    before = drawn.picture((240, 300), [face], grain=2)
    after = paint(before, [face], finish)
    assert after.shape == before.shape
    assert (after != before).any()


def test_strength_scales_the_change(drawn: ModuleType) -> None:
    face = drawn.face((150, 120), 100)
    before = drawn.picture((240, 300), [face])
    full, half = (change(before, paint(before, [face], strength=s)) for s in (1.0, 0.5))
    assert np.array_equal(paint(before, [face], strength=0.0), before)
    assert half.sum() == pytest.approx(full.sum() / 2, rel=0.1)


def test_a_face_without_a_mouth_is_refused_in_one_line(drawn: ModuleType) -> None:
    before = drawn.picture((240, 300), [])
    nowhere = np.full((68, 2), np.nan)
    for faces in (
        [],
        [Face(box=(10, 10, 80, 90))],
        [drawn.face((150, 120), 4)],
        [drawn.face((900, 120), 100)],
        [Face(box=(0, 0, 9, 9), points=nowhere, scheme="ibug68")],
        [Face(box=(0, 0, 9, 9), points=np.zeros((68, 2)), scheme="ibug68")],
    ):
        with pytest.raises(FaceError) as caught:
            paint(before, faces)
        assert caught.value.code == "no-mouth"
        assert "\n" not in caught.value.line()


def test_a_tiny_mouth_is_left_alone_beside_a_large_one(drawn: ModuleType) -> None:
    large, tiny = drawn.face((150, 120), 100), drawn.face((30, 30), 5)
    before = drawn.picture((240, 300), [large, tiny])
    assert np.array_equal(paint(before, [large, tiny]), paint(before, [large]))


def test_fifteen_points_give_an_ellipse(drawn: ModuleType) -> None:
    points = np.zeros((15, 2))
    points[11:15] = [(200, 121), (100, 119), (150, 100), (150, 148)]  # the subject's left corner, right corner, top, bottom
    before = drawn.picture((240, 300), [], grain=2)
    mouth = Mouth.of(Face(box=(0, 0, 9, 9), points=points, scheme="kaggle15"), before.shape[:2])
    assert mouth is not None
    assert np.allclose(mouth.outer[[0, 3, 6, 9]], [(100, 119), (150, 100), (200, 121), (150, 148)])
    after = paint(before, [Face(box=(0, 0, 9, 9), points=points, scheme="kaggle15")])
    assert change(before, after)[115:130, 130:170].mean() > 12


@pytest.mark.parametrize(("finish", "shade"), [("matt", "#b0123a"), ("tint", "red"), ("tint", "#12345"), ("tint", "")])
def test_finishes_and_shades_that_are_none_are_refused(drawn: ModuleType, finish: str, shade: str) -> None:
    with pytest.raises(UsageError):
        paint(drawn.picture((240, 300), []), [drawn.face((150, 120), 100)], finish, shade=shade)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_oklab_and_back_is_the_same_colour(colour: tuple[int, int, int]) -> None:
    pixels = np.array([[colour]], np.uint8)
    assert np.abs(tint.from_oklab(tint.to_oklab(pixels)) - pixels).max() < 0.6


@pytest.mark.parametrize("lip", [(190, 110, 110), (90, 55, 50)])
@pytest.mark.parametrize("shade", ["#b0123a", "#3355cc", "#e8a0a8", "#20060c", "#ffffff", "#808080"])
def test_a_tint_has_the_shades_hue_and_keeps_the_play_of_light(lip: tuple[int, int, int], shade: str) -> None:
    light = np.linspace(0.75, 1.1, 50)[:, None]
    region = np.clip(np.rint(light[:, None] * np.array(lip)), 0, 255).astype(np.uint8).repeat(4, 1)
    wanted = tint.parse(shade)
    made = tint.painted(region, np.ones(region.shape[:2], np.float32), wanted)
    before, after, goal = tint.to_oklab(region), tint.to_oklab(np.rint(made).astype(np.uint8)), tint.to_oklab(wanted)
    assert (np.diff(after[:, 0, 0]) > -0.01).all()  # what was lighter stays lighter
    assert after[..., 0].std() == pytest.approx(before[..., 0].std(), rel=0.25)
    if np.hypot(*goal[1:]) > 0.06:
        a, b = after[25, 0, 1:], goal[1:]
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.93
    moved = after[..., 0].mean() - before[..., 0].mean()
    assert moved * (goal[0] - before[..., 0].mean()) >= -1e-3  # towards the shade, never away


def test_the_colour_map_finds_an_affine_change_and_ignores_what_does_not_count() -> None:
    rng = np.random.default_rng(0)
    crop = rng.uniform(60, 200, (30, 90, 3)).astype(np.float32)
    linear, shift = np.array([[0.1, 0.2, 0], [0, -0.4, 0.1], [0, 0, -0.3]], np.float32), np.array([30, 5, -8], np.float32)
    change_ = crop @ linear + shift
    weights = np.zeros((30, 90), np.float32)
    weights[8:22, 10:80] = 1
    change_[weights == 0] = 77  # what the network did to the skin
    slope, offset, _, _ = composition.colour_map(crop, change_, weights)
    colour = np.array([120, 100, 90], np.float32)
    made = offset + np.einsum("c,hwcd->hwd", colour, slope)
    assert np.abs(made[weights > 0] - (colour @ linear + shift)).max() < 1.5


@given(st.integers(0, 10**6), st.sampled_from(ALL))
def test_no_mouth_breaks_it(seed: int, finish: str) -> None:
    """Noise, gradients and flat colours; points in any disorder, near and far, huge and tiny."""
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(1, 120, 2))
    before = rng.integers(0, 256, (*(size if rng.random() < 0.5 else (1, 1)), 3), np.uint8)
    before = np.ascontiguousarray(np.broadcast_to(before, (*size, 3)))
    points = rng.normal(0, 10.0 ** rng.uniform(-2, 3), (68, 2)) * rng.uniform(0, 1, 2) + rng.uniform(-0.2, 1.2, 2) * size[::-1]
    try:
        after = paint(before, [Face.of_points(points)], finish)
    except FaceError:
        return
    assert after.shape == before.shape


@pytest.mark.long
def test_a_photo_of_twelve_megapixels_takes_a_tenth_of_a_second(drawn: ModuleType) -> None:
    """Of processor time, whatever else the machine does; and the network a small part of it."""
    face = drawn.face((2000, 1500), 600, opening=0.2)
    before = drawn.picture((3000, 4000), [face], grain=3)
    for finish in ALL:
        took = []
        for _ in range(4):
            start = time.process_time()
            paint(before, [face], finish)
            took.append(time.process_time() - start)
        assert min(took) < 0.3  # 0.1 on a quiet machine
    mouth, recipe = Mouth.of(face, before.shape[:2]), Lipstick()
    assert mouth is not None
    crop, net = mouth.crop.cut(before), recipe.networks()["glazed"]
    start = time.process_time()
    recipe.painted(net, crop)
    assert time.process_time() - start < 0.05
