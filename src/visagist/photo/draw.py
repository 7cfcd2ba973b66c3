"""Drawing on photos for people to look at: boxes, points and numbers of faces; sheets of pictures with captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visagist.photo.face import GROUPS68, Face

Colour = tuple[int, int, int]

BOX: Colour = (64, 224, 190)
POINT: Colour = (255, 255, 255)
INK: Colour = (24, 28, 32)  # the contrast line around everything, and text
PAPER: Colour = (250, 250, 248)
_CLOSED = {"right_eye", "left_eye", "outer_lips", "inner_lips"}
_SHIFT = 6  # OpenCV takes coordinates in 1/64 pixel


def faces_on(
    pixels: np.ndarray, faces: Sequence[Face], *, boxes: bool = True, points: bool = True, numbers: bool = True
) -> np.ndarray:
    """A copy of the photo with faces drawn on it.

    pixels uint8 [H, W, 3]; faces in the order in which they are numbered, from 1. Lines are as wide as the photo and the face
    ask for and have a dark edge, so that they show on any ground. Returns uint8 [H, W, 3].
    """
    out = np.ascontiguousarray(pixels).copy()
    unit = max(1.0, min(out.shape[:2]) / 500)
    for face in faces:
        side = _side(face)
        if boxes:
            _frame(out, face, round(float(np.clip(side / 60, max(1.0, 0.4 * unit), 2 * unit))))
        if points and face.points is not None:
            _points(out, face, side)
    if numbers:  # last, so that no box crosses them
        for number, face in enumerate(faces, 1):
            _number(out, face, number, unit)
    return out


def sheet(
    images: Sequence[np.ndarray],
    captions: Sequence[str] = (),
    *,
    columns: int = 4,
    cell: tuple[int, int] | None = None,
    title: str = "",
) -> np.ndarray:
    """Pictures side by side, each fitted into a cell of its own with a caption below it.

    images    uint8 [h, w, 3], any sizes
    captions  one for each picture, or none at all; too long ones are shortened
    columns   pictures in a row
    cell      (height, width) of a cell in pixels; None for the largest picture, at most 512 a side
    title     a line above everything
    Returns uint8 [H, W, 3].
    """
    if not images:
        raise ValueError("a sheet needs pictures")
    if captions and len(captions) != len(images):
        raise ValueError(f"{len(images)} pictures, {len(captions)} captions")
    height, width = cell or (min(512, max(i.shape[0] for i in images)), min(512, max(i.shape[1] for i in images)))
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    gap = max(4, min(height, width) // 32)
    size = int(np.clip(min(height, width) / 14, 11, 28))
    line = round(1.6 * size) if captions else 0
    head = round(2.2 * size * 1.25) if title else 0
    out = np.empty((head + rows * (height + line + gap) + gap, columns * (width + gap) + gap, 3), np.uint8)
    out[:] = PAPER
    if title:
        words = _shortened(title, round(size * 1.25), out.shape[1] - 2 * gap)
        text_on(out, words, round(size * 1.25), (gap, head // 2 + gap // 2))
    for i, image in enumerate(images):
        top = head + gap + (i // columns) * (height + line + gap)
        left = gap + (i % columns) * (width + gap)
        small = _fitted(image, height, width)
        y, x = top + (height - small.shape[0]) // 2, left + (width - small.shape[1]) // 2
        out[y : y + small.shape[0], x : x + small.shape[1]] = small
        if captions and captions[i]:
            text_on(
                out, _shortened(captions[i], size, width), size, (left + width // 2, top + height + line // 2 + 1), anchor="middle"
            )
    return out


def _side(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return float(np.sqrt(max(1.0, (x1 - x0) * (y1 - y0))))


def _frame(out: np.ndarray, face: Face, width: int) -> None:
    """The box as crisp lines on its inner side, between two thin dark ones."""
    edge = max(1, round(0.4 * width))
    height_, width_ = out.shape[:2]
    x0, y0, x1, y1 = (round(float(np.clip(v, -width_ - height_, 2 * (width_ + height_)))) for v in face.box)
    for colour, low, high in ((INK, -edge, width + edge), (BOX, 0, width)):
        for top, bottom, left, right in (
            (y0 + low, y0 + high, x0 + low, x1 - low),
            (y1 - high, y1 - low, x0 + low, x1 - low),
            (y0 + low, y1 - low, x0 + low, x0 + high),
            (y0 + low, y1 - low, x1 - high, x1 - low),
        ):
            out[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour


def _points(out: np.ndarray, face: Face, side: float) -> None:
    assert face.points is not None
    places = face.points[np.isfinite(face.points).all(1)]
    if side < 80:  # a pixel each: dots would hide the face
        x, y = np.floor(places).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < out.shape[1]) & (y < out.shape[0])
        out[y[inside], x[inside]] = POINT
        return
    radius = side / 110
    if face.scheme == "ibug68":
        for name, group in GROUPS68.items():
            _line(out, face.points[list(group)], radius * 0.5, closed=name in _CLOSED)
    for colour, r in ((INK, radius + max(0.5, radius * 0.6)), (POINT, radius)):
        for place in places:
            cv2.circle(out, _fixed(place), round(r * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)


def _line(out: np.ndarray, places: np.ndarray, width: float, *, closed: bool) -> None:
    if np.isfinite(places).all():
        line = [np.array([_fixed(place) for place in places], np.int32)]
        cv2.polylines(out, line, closed, BOX, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _fixed(place: np.ndarray) -> tuple[int, int]:
    """OpenCV's fixed-point coordinates of a place, whose pixel centres it counts from."""
    x, y = np.clip(np.rint((place - 0.5) * 2**_SHIFT), -(2**28), 2**28)
    return int(x), int(y)


def _number(out: np.ndarray, face: Face, number: int, unit: float) -> None:
    """A tag with the face's number on the box's upper left corner: above the box, or inside where there is no room above."""
    height, width = out.shape[:2]
    size = round(float(np.clip(_side(face) / 5, max(11, 6 * unit), 20 * unit)))
    word = _word(str(number), size)
    pad = max(2, size // 4)
    tag = np.empty((size + pad, max(word.shape[1] + 2 * pad, size + pad // 2), 3), np.uint8)
    tag[:] = BOX
    _blend(tag, word, (tag.shape[0] - word.shape[0]) // 2, (tag.shape[1] - word.shape[1]) // 2, INK)
    tag = cv2.copyMakeBorder(tag, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=INK)
    y = round(face.box[1]) - tag.shape[0]
    if y < 0:
        y = round(max(face.box[1], 0))
    x = round(face.box[0])
    y, x = int(np.clip(y, 0, max(0, height - tag.shape[0]))), int(np.clip(x, 0, max(0, width - tag.shape[1])))
    room = out[y : y + tag.shape[0], x : x + tag.shape[1]]
    room[:] = tag[: room.shape[0], : room.shape[1]]


def _fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    scale = min(height / image.shape[0], width / image.shape[1])
    if scale == 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted: np.ndarray = cv2.resize(np.ascontiguousarray(image), size, interpolation=how)
    return fitted


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=256)
def _word(text: str, size: int) -> np.ndarray:
    """Coverage uint8 [h, w] of a line of text, cut to its ink in width and to the font's line in height."""
    font = _font(size)
    left, _, right, _ = (round(v) for v in font.getbbox(text))
    _, top, _, bottom = (round(v) for v in font.getbbox("0"))
    low = max(0, round(size * 0.3))  # for what hangs below the line
    image = Image.new("L", (max(1, right - left), bottom - top + 2 * low))
    ImageDraw.Draw(image).text((-left, low - top), text, fill=255, font=font)
    word = np.array(image)
    word.setflags(write=False)
    return word


def _shortened(text: str, size: int, width: int) -> str:
    """The text on one line, with its middle left out where it is wider than `width` pixels."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if _word(text[:400], size).shape[1] <= width and len(text) <= 400:
        return text
    for keep in range(min(len(text), 400) - 1, 0, -1):
        short = text[: -(-keep // 2)].rstrip() + "…" + (text[-(keep // 2) :].lstrip() if keep > 1 else "")
        if _font(size).getlength(short) <= width:
            return short
    return ""


def text_on(out: np.ndarray, text: str, size: int, place: tuple[int, int], *, anchor: str = "left", upward: bool = False) -> None:
    """Text of a size in pixels on a picture uint8 [H, W, 3], in place; its middle line goes through place (x, y).

    anchor  which end of the text lies there: "left", "middle" or "right"
    upward  turned by 90 degrees, read from below
    """
    word = _word(text, size)
    back = {"left": 0, "middle": word.shape[1] // 2, "right": word.shape[1]}[anchor]
    down, across = place[1] - word.shape[0] // 2, place[0] - back
    if upward:
        word, down, across = np.rot90(word), place[1] + back - word.shape[1], place[0] - word.shape[0] // 2
    _blend(out, word, down, across, INK)


def names_on(pixels: np.ndarray, faces: Sequence[Face], names: Sequence[str]) -> np.ndarray:
    """A copy of the picture uint8 [H, W, 3] with faces framed and a name on a light strip below each, "" for none."""
    out = faces_on(pixels, faces, numbers=False)
    for face, name in zip(faces, names, strict=True):
        x0, _, x1, y1 = (round(v) for v in face.box)
        size = int(np.clip((x1 - x0) / 6, 11, 40))
        word = _shortened(name, size, max(x1 - x0, 60))
        if word:
            wide = _word(word, size).shape[1]
            top, left = min(max(y1, 0), out.shape[0] - 2 * size), max((x0 + x1 - wide) // 2 - size // 2, 0)
            out[max(top, 0) : top + round(1.6 * size), left : left + wide + size] = PAPER
            text_on(out, word, size, (left + size // 2, top + round(0.8 * size)))
    return out


def _blend(out: np.ndarray, word: np.ndarray, y: int, x: int, colour: Colour) -> None:
    """Ink of a colour where the word covers the picture; what falls outside is left out."""
    y0, x0, y1, x1 = max(0, y), max(0, x), min(out.shape[0], y + word.shape[0]), min(out.shape[1], x + word.shape[1])
    if y1 <= y0 or x1 <= x0:
        return
    weight = word[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32) / 255
    room = out[y0:y1, x0:x1]
    room[:] = np.rint(room + weight * (np.array(colour, np.float32) - room)).astype(np.uint8)
