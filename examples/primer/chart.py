"""Small charts, tables of numbers and animations, drawn with Pillow. Enough for a lecture, and nothing to install.

    chart = Chart((0, 10), (0, 1), title="learning", across="pass", up="error")
    chart.line(passes, errors, BLUE, name="two hidden units")
    save(beside(chart.picture(), other), "runs/primer/learning.png")

Everything is drawn three times too large and reduced at the end, which makes smooth edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAPER: Colour = (250, 250, 248)
INK: Colour = (24, 28, 32)
GREY: Colour = (140, 146, 152)
FAINT: Colour = (222, 224, 226)
# Hues that people with any kind of colour vision can tell apart.
BLUE: Colour = (0, 105, 180)
ORANGE: Colour = (222, 110, 0)
GREEN: Colour = (0, 150, 110)
PURPLE: Colour = (180, 80, 150)
RED: Colour = (200, 40, 40)
HUES = (BLUE, ORANGE, GREEN, PURPLE, RED)

FINE = 3  # drawn pixels per pixel of the picture
TEXT = 14  # size of the letters
# The letters that come with Pillow know little more than ASCII.
SPELLED = str.maketrans({"−": "-", "×": "x", "–": "-", "→": ">"})


@lru_cache(maxsize=32)
def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def tint(colour: Colour, strength: float) -> Colour:
    """Between paper (0) and the colour (1)."""
    r, g, b = (round(p + strength * (c - p)) for p, c in zip(PAPER, colour))
    return r, g, b


def write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], words: str, colour: Colour = INK, size: float = TEXT, anchor: str = "mm"
) -> None:
    """Words on a drawing FINE times too large. Place and size in pixels of the picture, anchors as Pillow's: la, mm, rs..."""
    draw.text((place[0] * FINE, place[1] * FINE), words.translate(SPELLED), fill=colour, font=font(size * FINE), anchor=anchor)


def blank(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width * FINE, height * FINE), PAPER)
    return image, ImageDraw.Draw(image)


def round_steps(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high, 1, 2 or 5 times a power of ten apart."""
    raw = (high - low) / about
    power = 10 ** np.floor(np.log10(raw))
    gap = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - raw))
    return [float(v) for v in np.arange(np.ceil(low / gap - 1e-9), np.floor(high / gap + 1e-9) + 1) * gap]


def short(value: float) -> str:
    return f"{value + 0.0:,.6g}"


class Chart:
    """Axes with things drawn into them, in their coordinates.

    x, y    what the axes span        width, height  of the whole picture, in pixels
    across  label below the x axis    up             label above the y axis
    ticks   {value: label} for each axis; None: round numbers
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        width: int = 360,
        height: int = 290,
        title: str = "",
        across: str = "",
        up: str = "",
        x_ticks: dict[float, str] | None = None,
        y_ticks: dict[float, str] | None = None,
    ) -> None:
        self.x, self.y = x, y
        x_ticks = {v: short(v) for v in round_steps(*x)} if x_ticks is None else x_ticks
        y_ticks = {v: short(v) for v in round_steps(*y)} if y_ticks is None else y_ticks
        widest = max((font(TEXT).getlength(label) for label in y_ticks.values()), default=0)
        top = 12 + (24 if title else 0) + (20 if up else 0)
        last = list(x_ticks.values())[-1] if x_ticks else ""
        self.left, self.right = round(widest) + 16, width - max(12, round(font(TEXT).getlength(last) / 2) + 2)
        self.top, self.bottom = top, height - 12 - (20 if x_ticks else 0) - (20 if across else 0)
        self.image, self.draw = blank(width, height)
        self.names: list[tuple[str, Colour]] = []
        if title:
            write(self.draw, (self.left, 8), title, size=TEXT + 3, anchor="la")
        if up:
            write(self.draw, (self.left, self.top - 8), up, GREY, anchor="ls")
        if across:
            write(self.draw, ((self.left + self.right) / 2, height - 8), across, GREY, anchor="ms")
        for value, label in x_ticks.items():
            at = self._at(value, y[0])[0]
            self._stroke([(at, self.top), (at, self.bottom)], FAINT, 1)
            write(self.draw, (at, self.bottom + 6), label, GREY, anchor="ma")
        for value, label in y_ticks.items():
            at = self._at(x[0], value)[1]
            self._stroke([(self.left, at), (self.right, at)], FAINT, 1)
            write(self.draw, (self.left - 7, at), label, GREY, anchor="rm")

    def _at(self, x: float, y: float) -> tuple[float, float]:
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def _stroke(self, places: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        self.draw.line([(px * FINE, py * FINE) for px, py in places], colour, max(1, round(width * FINE)), joint="curve")

    def ground(self, colours: np.ndarray) -> None:
        """A picture uint8 [h, w, 3] that fills the axes; row 0 is at the top. To be drawn first."""
        size = (self.right - self.left) * FINE, (self.bottom - self.top) * FINE
        picture = Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR)
        self.image.paste(picture, (self.left * FINE, self.top * FINE))

    def mesh(self, cells: int = 120) -> np.ndarray:
        """Points float [cells, cells, 2] all over the axes, in the order in which `ground` wants its rows."""
        xs, ys = np.linspace(*self.x, cells), np.linspace(self.y[1], self.y[0], cells)
        return np.stack(np.meshgrid(xs, ys), -1)

    def line(
        self, xs: Sequence[float], ys: Sequence[float], colour: Colour, *, width: float = 2.2, name: str = "", dashes: float = 0
    ) -> None:
        """Through points. What leaves the axes is cut off; `dashes` is the length of a dash in pixels, 0 for none."""
        places = np.array([self._at(float(a), float(b)) for a, b in zip(xs, ys)])
        places[:, 1] = places[:, 1].clip(-1e5, 1e5)
        for piece in self._inside(places):
            if not dashes:
                self._stroke([tuple(p) for p in piece], colour, width)
                continue
            way = np.concatenate([[0], np.hypot(*np.diff(piece, axis=0).T).cumsum()])
            for start in np.arange(0, way[-1], 2 * dashes):
                at = np.linspace(start, min(start + dashes, way[-1]), 5)
                self._stroke([(np.interp(a, way, piece[:, 0]), np.interp(a, way, piece[:, 1])) for a in at], colour, width)
        if name:
            self.names.append((name, colour))

    def _inside(self, places: np.ndarray) -> list[np.ndarray]:
        """The pieces of a line between the upper and the lower edge."""
        pieces: list[list[np.ndarray]] = [[]]
        for a, b in zip(places[:-1], places[1:]):
            low, high = 0.0, 1.0  # the part of the way from a to b that is inside
            for wall, sign in ((self.top, 1), (self.bottom, -1)):
                da, db = sign * (a[1] - wall), sign * (b[1] - wall)
                if da < 0 and db < 0:
                    high = -1.0
                elif da < 0:
                    low = max(low, da / (da - db))
                elif db < 0:
                    high = min(high, da / (da - db))
            if low < high:
                if not pieces[-1] or low > 0:
                    pieces.append([a + low * (b - a)])
                pieces[-1].append(a + high * (b - a))
                if high < 1:
                    pieces.append([])
        return [np.array(piece) for piece in pieces if len(piece) > 1]

    def dots(
        self, xs: Sequence[float], ys: Sequence[float], colour: Colour, *, radius: float = 4, shape: str = "disc", name: str = ""
    ) -> None:
        """shape: disc, ring or cross"""
        for a, b in zip(xs, ys):
            px, py = self._at(float(a), float(b))
            box = [(px - radius) * FINE, (py - radius) * FINE, (px + radius) * FINE, (py + radius) * FINE]
            if shape == "cross":
                self._stroke([(px - radius, py - radius), (px + radius, py + radius)], colour, radius * 0.55)
                self._stroke([(px - radius, py + radius), (px + radius, py - radius)], colour, radius * 0.55)
            elif shape == "ring":
                self.draw.ellipse(box, None, colour, round(0.28 * radius * FINE))
            else:
                self.draw.ellipse(box, colour, PAPER if radius >= 3 else None, max(1, FINE // 2))
        if name:
            self.names.append((name, colour))

    def bars(self, xs: Sequence[float], ys: Sequence[float], colour: Colour, *, width: float, name: str = "") -> None:
        """Bars from 0, `width` wide in units of the x axis."""
        for a, b in zip(xs, ys):
            (x0, y0), (x1, y1) = self._at(a - width / 2, max(b, 0)), self._at(a + width / 2, min(b, 0))
            self.draw.rectangle([x0 * FINE, y0 * FINE, x1 * FINE, y1 * FINE], colour)
        if name:
            self.names.append((name, colour))

    def note(self, x: float, y: float, words: str, colour: Colour = INK, anchor: str = "lm", size: float = TEXT) -> None:
        write(self.draw, self._at(x, y), words, colour, size, anchor)

    def picture(self, legend: str = "") -> Image.Image:
        """The finished picture; legend: "" for none, or the corner it stands in, such as "upper left"."""
        left, bottom = self.left * FINE, self.bottom * FINE
        self.draw.line([(left, self.top * FINE), (left, bottom), (self.right * FINE, bottom)], GREY, FINE)
        if legend and self.names:
            wide = max(font(TEXT).getlength(name.translate(SPELLED)) for name, _ in self.names) + 32
            x = self.left + 10 if "left" in legend else self.right - wide - 4
            y = self.top + 8 if "upper" in legend else self.bottom - 8 - 19 * len(self.names)
            box = [(x - 4) * FINE, (y - 4) * FINE, (x + wide) * FINE, (y + 19 * len(self.names) + 2) * FINE]
            self.draw.rounded_rectangle(box, 4 * FINE, PAPER)
            for i, (name, colour) in enumerate(self.names):
                self._stroke([(x + 2, y + 9 + 19 * i), (x + 18, y + 9 + 19 * i)], colour, 4)
                write(self.draw, (x + 25, y + 9 + 19 * i), name, anchor="lm")
        return self.image.reduce(FINE)


# ---- tables of numbers, and pictures as tables


def cells(
    values: np.ndarray,
    *,
    side: int = 44,
    colours: np.ndarray | None = None,
    digits: str = "{:g}",
    title: str = "",
    frame: tuple[int, int, int, int] | None = None,
    show: np.ndarray | None = None,
) -> Image.Image:
    """A table of numbers [rows, columns] as squares.

    colours  uint8 [rows, columns, 3]; None: blue above 0, orange below, paler the smaller
    digits   how a number is written; "" for no numbers
    frame    (row, column, height, width) of a rectangle to outline
    show     bool [rows, columns]: which cells have anything in them yet
    """
    rows, columns = values.shape
    colours = signed(values) if colours is None else colours
    head = 28 if title else 4
    width = max(columns * side + 8, round(font(TEXT).getlength(title.translate(SPELLED))) + 12)
    left = (width - columns * side) // 2
    image, draw = blank(width, rows * side + head + 4)
    if title:
        write(draw, (width / 2, head / 2), title)
    for i in range(rows):
        for j in range(columns):
            x, y = left + j * side, head + i * side
            known = show is None or show[i, j]
            fill = tuple(int(v) for v in colours[i, j]) if known else PAPER
            draw.rectangle([x * FINE, y * FINE, (x + side) * FINE - 1, (y + side) * FINE - 1], fill, FAINT, max(1, FINE // 2))
            if digits and known:
                ink = INK if sum(fill) > 330 else PAPER
                write(draw, (x + side / 2, y + side / 2), digits.format(values[i, j] + 0.0), ink, min(TEXT + 2, side * 0.36))
    if frame:
        i, j, high, wide = frame
        x, y = left + j * side, head + i * side
        draw.rectangle([x * FINE, y * FINE, (x + wide * side) * FINE, (y + high * side) * FINE], None, RED, 3 * FINE)
    return image.reduce(FINE)


def signed(values: np.ndarray, most: float | None = None, hues: tuple[Colour, Colour] = (BLUE, ORANGE)) -> np.ndarray:
    """Numbers as colours uint8 [..., 3]: one hue above 0, one below, paper at 0. `most` is where the colour is full."""
    most = most or float(np.abs(values).max()) or 1.0
    share = np.abs(values / most).clip(0, 1)[..., None] * 0.85
    full = np.where((values > 0)[..., None], np.array(hues[0]), np.array(hues[1]))
    return np.rint(np.array(PAPER) + share * (full - np.array(PAPER))).astype(np.uint8)


def enlarged(pixels: np.ndarray, times: int) -> Image.Image:
    """A picture uint8 [h, w] or [h, w, 3] with every pixel a square."""
    return Image.fromarray(np.repeat(np.repeat(pixels, times, 0), times, 1)).convert("RGB")


def words(text: str, *, size: float = TEXT, colour: Colour = INK, pad: int = 6) -> Image.Image:
    """Lines of text as a picture."""
    lines = text.split("\n")
    width = round(max(font(size).getlength(line.translate(SPELLED)) for line in lines)) + 2 * pad
    image, draw = blank(width, round(len(lines) * size * 1.35) + 2 * pad)
    for i, line in enumerate(lines):
        write(draw, (pad, pad + (i + 0.5) * size * 1.35), line, colour, size, "lm")
    return image.reduce(FINE)


def captioned(picture: Image.Image, caption: str) -> Image.Image:
    return below(words(caption, colour=GREY, pad=3), picture, gap=0)


def beside(*pictures: Image.Image, gap: int = 10) -> Image.Image:
    """In a row, centred."""
    image = Image.new("RGB", (sum(p.width for p in pictures) + gap * (len(pictures) - 1), max(p.height for p in pictures)), PAPER)
    x = 0
    for picture in pictures:
        image.paste(picture, (x, (image.height - picture.height) // 2))
        x += picture.width + gap
    return image


def below(*pictures: Image.Image, gap: int = 10) -> Image.Image:
    """In a column, centred."""
    image = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures) + gap * (len(pictures) - 1)), PAPER)
    y = 0
    for picture in pictures:
        image.paste(picture, ((image.width - picture.width) // 2, y))
        y += picture.height + gap
    return image


# ---- files


def save(picture: Image.Image, path: Path, colours: int = 128, margin: int = 8) -> None:
    """Charts as a PNG of few colours, about 10 kB; photographs better as a .webp."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = Image.new("RGB", (picture.width + 2 * margin, picture.height + 2 * margin), PAPER)
    whole.paste(picture, (margin, margin))
    if path.suffix == ".webp":
        whole.save(path, quality=80, method=6)
    else:
        whole.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"picture: {path}")


def animate(frames: Sequence[Image.Image], path: Path, milliseconds: int, colours: int = 48) -> None:
    """An animated WebP without losses, in a loop that rests on the last frame for two seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = frames[-1].quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    plain = [frame.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB") for frame in frames]
    pauses = [milliseconds] * (len(frames) - 1) + [2000]
    plain[0].save(
        path, save_all=True, append_images=plain[1:], duration=pauses, loop=0, lossless=True, method=4, minimize_size=True
    )
    print(f"picture: {path}")
