"""Drawing: shows what it should, at every size, and touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.photo import draw
from visagist.photo.draw import faces_on, sheet
from visagist.photo.face import Face


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def face(x: float, y: float, side: float) -> Face:
    t = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    return Face.of_points(np.stack([x + side * 0.4 * np.cos(t), y + side * 0.4 * np.sin(t)], -1))


@pytest.mark.parametrize(("size", "side"), [((60, 80), 30), ((500, 700), 24), ((500, 700), 300), ((1500, 2000), 900)])
def test_box_points_and_number_show(size: tuple[int, int], side: int) -> None:
    photo = grey(*size)
    found = face(size[1] / 2, size[0] / 2, side)
    drawn = faces_on(photo, [found])
    assert drawn.shape == photo.shape
    assert drawn.dtype == np.uint8
    assert (photo == 128).all()
    x0, y0, x1, y1 = (round(v) for v in found.box)
    line = draw.BOX
    middle = (y0 + y1) // 2
    row = np.abs(drawn[middle, x0 - 1 : x0 + max(4, side // 30) + 1].astype(int) - line).sum(-1)
    assert row.min() < 60  # the box's left line is in its colour
    assert (drawn == draw.POINT).all(-1).sum() >= 10
    # Nothing is drawn well away from the face and its number.
    reach = max(60, side)
    away = drawn.copy()
    away[max(0, y0 - reach) : y1 + reach, max(0, x0 - reach) : x1 + reach] = 128
    assert (away == 128).all()
    without = faces_on(photo, [found], boxes=False, points=False, numbers=False)
    assert (without == photo).all()


def test_lines_are_antialiased_and_not_shifted() -> None:
    found = Face(box=(20.0, 20.0, 180.0, 180.0))
    drawn = faces_on(grey(200, 200), [found], numbers=False)
    assert (drawn == drawn[:, ::-1]).all(-1).mean() > 0.995  # the middle stays in the middle
    assert (drawn == drawn.transpose(1, 0, 2)).all(-1).mean() > 0.995


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (90, 90, 300, 300), (1e6, 1e6, 2e6, 2e6), (-1e9, -1e9, 1e9, 1e9), (5, 5, 5, 5), (0, 0, 100, 100)]
)
def test_boxes_that_leave_the_photo(box: tuple[float, float, float, float]) -> None:
    assert faces_on(grey(100, 100), [Face(box=box)]).shape == (100, 100, 3)


def test_tiny_photos_and_many_faces() -> None:
    assert faces_on(grey(1, 1), [Face(box=(0, 0, 1, 1))]).shape == (1, 1, 3)
    assert faces_on(grey(1, 4000), [Face(box=(0, 0, 1, 1))]).shape == (1, 4000, 3)
    many = [face(50 + 90 * (i % 6), 60 + 90 * (i // 6), 60) for i in range(30)]
    assert faces_on(grey(520, 600), many).shape == (520, 600, 3)
    broken = Face(box=(0, 0, 50, 50), points=np.full((68, 2), np.nan), scheme="ibug68")
    assert faces_on(grey(60, 60), [broken]).shape == (60, 60, 3)
    fifteen = Face(box=(0, 0, 90, 90), points=np.random.default_rng(0).uniform(0, 90, (15, 2)), scheme="kaggle15")
    assert (faces_on(grey(100, 100), [fifteen]) == draw.POINT).all(-1).any()


def test_read_only_and_sliced_photos() -> None:
    photo = grey(100, 200)
    photo.setflags(write=False)
    assert faces_on(photo[:, ::2], [face(50, 50, 40)]).shape == (100, 100, 3)


def test_numbers_differ() -> None:
    one = faces_on(grey(200, 200), [Face(box=(50, 50, 150, 150))])
    two = faces_on(grey(200, 200), [Face(box=(50, 50, 150, 150)), Face(box=(50, 50, 150, 150))])
    assert (one != two).any()


def test_sheet() -> None:
    pictures = [np.full((40, 60, 3), 30 * i, np.uint8) for i in range(5)]
    plain = sheet(pictures, columns=3)
    assert plain.shape[1] > 3 * 60
    for i, picture in enumerate(pictures):
        assert (plain == picture[0, 0]).all(-1).sum() >= 40 * 60, i
    captioned = sheet(pictures, [f"picture {i}" for i in range(5)], columns=3, title="five pictures")
    assert captioned.shape[0] > plain.shape[0]
    assert captioned.shape[1] == plain.shape[1]
    assert sheet(pictures[:1], columns=9).shape[1] < 80
    with pytest.raises(ValueError, match="needs pictures"):
        sheet([])
    with pytest.raises(ValueError, match="5 pictures, 1 captions"):
        sheet(pictures, ["one"])


def test_sheet_fits_every_size() -> None:
    pictures = [grey(1, 1), grey(3000, 2), grey(2, 3000), grey(700, 900)]
    made = sheet(pictures, ["", "a" * 5000, "换行\n😀 and more words than there is room for", "plain"], columns=2, cell=(100, 120))
    assert made.shape[1] < 2 * 120 + 20
    assert made.dtype == np.uint8


def test_names_stand_below_their_faces() -> None:
    pixels = np.full((120, 160, 3), 40, np.uint8)
    faces = [Face((20, 10, 80, 70)), Face((100, 20, 150, 119)), Face((85, 5, 95, 15))]
    framed = draw.faces_on(pixels, faces, numbers=False)
    named = draw.names_on(pixels, faces, ["Ann", "someone with a very long name", ""])
    changed = (named != framed).any(2)
    assert changed[70:90, 20:80].any() and not changed[:70, :100].any()
    assert changed[:, 100:].any()  # at the edge of the picture it is moved inside
    assert (named[70:90, 20:80] < 120).any() and (named[70:90, 20:80] > 200).any()  # dark letters on a light strip
    assert np.array_equal(pixels, np.full((120, 160, 3), 40, np.uint8))
