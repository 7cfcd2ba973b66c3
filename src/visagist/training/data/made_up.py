"""Drawn faces with exact boxes and 68 points, scenes of them, circles and squares beside them, and lip triples: data for tests and
trials that need no data.

Everything follows from a generator or seed; no photograph is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from visagist.photo.boxes import Box
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data.heads import Head, Look
from visagist.training.data.painting import Canvas, paint

LIP_SIZE = (30, 90)  # (height, width), as in the lips set


def face(rng: np.random.Generator, size: int = 128) -> tuple[np.ndarray, Face]:
    """One drawn face that fills most of a picture: pixels uint8 [size, size, 3] and the face with its 68 points."""
    plan = Plan.portrait(Look.person(rng), rng, size)
    return plan.draw(), plan.heads[0].face


def scene(rng: np.random.Generator, size: int | tuple[int, int] = 320, faces: int = 3, *, name: str = "scene.png") -> Item:
    """Several drawn people (or none) of different sizes in front of clutter; every face is labelled.

    Where the picture is too full for all of them there are fewer.
    """
    plan = Plan.crowd(rng, (size, size) if isinstance(size, int) else size, faces)
    return Item(name, Drawing(plan.draw), tuple(head.face for head in plan.heads))


def items(count: int, seed: int = 0, *, size: int = 128, faces: int | tuple[int, int] = 1, people: int | None = None) -> list[Item]:
    """Drawn pictures, each with one face that fills it, or scenes with `faces` faces (a number or an inclusive range, 0 allowed).

    people  how many different persons are among the portraits; None: every picture shows another. Facts as in a data set.
    The same seed gives the same pictures, of which the first ones do not depend on `count`.
    """
    made = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        if faces != 1:
            low, high = (faces, faces) if isinstance(faces, int) else faces
            made.append(scene(rng, size, int(rng.integers(low, high + 1)), name=f"scene{index:05}.png"))
            continue
        who = index if people is None else index % people
        look = Look.person(np.random.default_rng((seed, 1 << 20, who)))
        plan = Plan.portrait(look, rng, size)
        head = plan.heads[0]
        made.append(
            Item(f"face{index:05}.png", Drawing(plan.draw), (head.face,), facts=head.look.facts(), person=f"person{who:05}")
        )
    return made


def lips(count: int, seed: int = 0) -> list[Item]:
    """Triples of one mouth, 90 x 30, as in the lips set: bare, glazed (saturated red) and glossy (lighter, shiny).

    Paint lies on the lips alone, neither on skin nor on teeth.
    """
    made = []
    for index in range(count):
        rng = np.random.default_rng((seed, 2 << 20, index))
        look = Look.person(rng).at_moment(rng, turn=8.0)
        triple = Triple(look, int(rng.integers(1 << 30)))
        targets = {"glazed": Drawing(triple.glazed), "glossy": Drawing(triple.glossy)}
        made.append(Item(f"bare/{index:03}.png", Drawing(triple.bare), complete=False, targets=targets, person=f"person{index:05}"))
    return made


SHAPES = ("circle", "square", "face")


def shapes(count: int, seed: int = 0, *, size: int = 128, most: int = 3) -> list[Item]:
    """Drawn pictures with up to `most` circles, squares and faces each, labelled so, none covering another: for detectors of
    several classes. The same seed gives the same pictures, of which the first ones do not depend on `count`."""
    made = []
    for index in range(count):
        plan = Shapes.some(np.random.default_rng((seed, 3 << 20, index)), size, most)
        made.append(Item(f"shapes{index:05}.png", Drawing(plan.draw), tuple(label for label, _ in plan.things)))
    return made


@dataclass(eq=False)
class Drawing:
    """A picture drawn on first use, then kept; without pixels when sent to another process."""

    draw: Callable[[], np.ndarray]
    _photo: Photo | None = field(default=None, repr=False)

    def __call__(self) -> Photo:
        if self._photo is None:
            self._photo = Photo.of(self.draw())
        return self._photo

    def __getstate__(self) -> dict[str, Any]:
        return {"draw": self.draw, "_photo": None}


@dataclass(frozen=True, eq=False)
class Plan:
    """What a picture is going to show; cheap, so that labels are known before anything is drawn."""

    size: tuple[int, int]
    heads: tuple[Head, ...]
    seed: int

    @classmethod
    def portrait(cls, person: Look, rng: np.random.Generator, size: int) -> Plan:
        """One head that fills 45 to 70 % of the picture's height with its face."""
        scale = size * rng.uniform(0.19, 0.30)
        centre = size / 2 + rng.uniform(-0.06, 0.06) * size, size * 0.5 + rng.uniform(-0.06, 0.06) * size
        return cls((size, size), (Head.at(person.at_moment(rng), centre, scale),), int(rng.integers(1 << 30)))

    @classmethod
    def crowd(cls, rng: np.random.Generator, size: tuple[int, int], faces: int) -> Plan:
        """Heads that hide nothing of each other's faces, larger ones in front."""
        height, width = size
        heads: list[Head] = []
        for _ in range(60 * faces):
            if len(heads) == faces:
                break
            largest = 0.20 * min(size) / max(1.0, faces**0.5 / 1.5)
            scale = float(np.exp(rng.uniform(np.log(max(4.0, largest / 5)), np.log(max(5.0, largest)))))
            centre = rng.uniform(1.3 * scale, max(width - 1.3 * scale, 1.4 * scale)), rng.uniform(1.5 * scale, height - 1.2 * scale)
            look = Look.person(rng).at_moment(rng)
            head = Head.at(look, (float(centre[0]), float(centre[1])), scale)
            if all(_apart(head, other) for other in heads):
                heads.append(head)
        return cls(size, tuple(sorted(heads, key=lambda h: h.scale)), int(rng.integers(1 << 30)))

    def draw(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        rng = np.random.default_rng(self.seed)
        canvas = backdrop(rng, self.size)
        for head in self.heads:
            paint(canvas, head, rng)
        return finished(canvas, rng)


@dataclass(frozen=True, eq=False)
class Shapes:
    """Circles, squares and faces in one picture; `things` holds each with its label and its head or outline [P, 2]."""

    size: int
    things: tuple[tuple[Face, Head | np.ndarray], ...]
    seed: int

    @classmethod
    def some(cls, rng: np.random.Generator, size: int, most: int) -> Shapes:
        """One to `most` of them, a fifth to half as large as the picture; fewer where there is no room."""
        things: list[tuple[Face, Head | np.ndarray]] = []
        wanted = int(rng.integers(1, most + 1))
        for _ in range(20 * wanted):
            if len(things) == wanted:
                break
            kind, reach = SHAPES[int(rng.integers(len(SHAPES)))], size * float(rng.uniform(0.1, 0.24))
            x, y = (float(v) for v in rng.uniform(reach, size - reach, 2))
            t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
            corners = {"circle": t, "square": np.arange(4) * np.pi / 2 + np.pi / 4 + rng.uniform(-0.15, 0.15)}
            drawn: Head | np.ndarray
            if kind == "face":
                drawn = Head.at(Look.person(rng).at_moment(rng, turn=10), (x, y), reach)
                label = Face(drawn.face.box)
                if not all(_apart(drawn, other) for _, other in things if isinstance(other, Head)):
                    continue
            else:
                long = reach if kind == "circle" else reach * np.sqrt(2) * 0.9
                outline = np.column_stack([np.cos(corners[kind]), np.sin(corners[kind])]) * long + (x, y)
                drawn, label = outline, Face((*outline.min(0), *outline.max(0)), label=kind)
            x0, y0, x1, y1 = label.box
            inside = min(x0, y0) >= 0 and max(x1, y1) <= size
            if inside and all(_separate(label.box, other.box) for other, _ in things):
                things.append((label, drawn))
        return cls(size, tuple(things), int(rng.integers(1 << 30)))

    def draw(self) -> np.ndarray:
        """uint8 [size, size, 3]: heads first, whose bodies lie behind everything."""
        rng = np.random.default_rng(self.seed)
        canvas = backdrop(rng, (self.size, self.size), clutter=False)
        for head in sorted((drawn for _, drawn in self.things if isinstance(drawn, Head)), key=lambda h: h.scale):
            paint(canvas, head, rng)
        for _, drawn in self.things:
            if not isinstance(drawn, Head):
                ground = canvas.pixels[..., :3].reshape(-1, 3).mean(0)
                colour = rng.uniform(0, 255, 3)
                while np.abs(colour - ground).max() < 90:
                    colour = rng.uniform(0, 255, 3)
                canvas.fill(drawn, (float(colour[0]), float(colour[1]), float(colour[2])))
        return finished(canvas, rng)


@dataclass(frozen=True)
class Triple:
    """One mouth without and with make-up."""

    look: Look
    seed: int

    def bare(self) -> np.ndarray:
        return self._drawn()[0].astype(np.uint8)

    def glazed(self) -> np.ndarray:
        """Saturated red: red stays, green and blue fall."""
        pixels, lips = self._drawn()
        return _painted(pixels, lips, pixels * np.array([0.92, 0.36, 0.42]) + np.array([28, 0, 8]))

    def glossy(self) -> np.ndarray:
        """Lighter and pink, highlights stronger."""
        pixels, lips = self._drawn()
        light = pixels.mean(2, keepdims=True)
        return _painted(pixels, lips, pixels * 0.8 + np.array([62, 42, 50]) + 0.9 * np.clip(light - 150, 0, None))

    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Bare lips float [30, 90, 3], and where they are, float [30, 90, 1] in 0..1."""
        rng = np.random.default_rng(self.seed)
        height, width = LIP_SIZE
        upright = Head(self.look, np.eye(2, 3))
        mouth = upright.face.outer_lips
        low, high = mouth.min(0), mouth.max(0)
        scale = (width - 6, height - 4) / (high - low)  # each axis on its own: the crops of the set are stretched, too
        matrix = np.column_stack([np.diag(scale), (3, 2) - scale * low])
        head = Head(self.look, matrix)
        canvas = backdrop(rng, LIP_SIZE)
        paint(canvas, head, rng)
        pixels = finished(canvas, rng)
        shapes = Canvas(LIP_SIZE)
        shapes.fill(head.face.outer_lips, (255, 255, 255))
        if self.look.mouth_open > 0.02:
            shapes.fill(head.face.inner_lips, (0, 0, 0))
        return pixels.astype(np.float64), shapes.picture()[..., :1] / 255


def backdrop(rng: np.random.Generator, size: tuple[int, int], *, clutter: bool = True) -> Canvas:
    """A gradient with clutter on it: balls, boxes, bars and blots, some of them in the colours of skin, none of them a face."""
    height, width = size
    canvas = Canvas(size)
    a, b = rng.uniform(30, 235, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)
    share = 0.5 + 0.5 * (x * np.cos(angle) + y * np.sin(angle))
    canvas.pixels[:] = cv2.resize((a + (b - a) * share[..., None]).astype(np.uint8), canvas.pixels.shape[1::-1])
    for _ in range(int(rng.integers(3, 16)) if clutter else 0):
        centre, reach = rng.uniform(0, (width, height)), rng.uniform(0.03, 0.22) * min(size)
        colour = rng.uniform(0, 255, 3) if rng.random() < 0.7 else np.array(Look.person(rng).skin)
        kind, turn, flat = rng.integers(4), rng.uniform(0, np.pi), rng.uniform(0.3, 1)
        if kind == 0:
            t = np.linspace(0, 2 * np.pi, 40)
        elif kind == 1:
            t = np.arange(4) * np.pi / 2 + np.pi / 4
        elif kind == 2:
            t, flat = np.arange(4) * np.pi / 2 + np.pi / 4, 0.06
            reach *= 3
        else:
            t = np.sort(rng.uniform(0, 2 * np.pi, 9))
        shape = np.column_stack([np.cos(t), flat * np.sin(t)]) * reach
        c, s = np.cos(turn), np.sin(turn)
        shape = shape @ np.array([[c, s], [-s, c]]) + centre
        canvas.fill(shape, tuple(colour), float(rng.uniform(0.5, 1)), float(rng.choice([0.0, 0.0, reach * 0.1])))
    return canvas


def finished(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """The picture as a camera would give it: a little blur, noise and another exposure."""
    pixels = canvas.picture()
    if (blur := rng.uniform(0, 0.9)) > 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
    noisy = pixels * rng.uniform(0.8, 1.15) + rng.normal(0, rng.uniform(1, 5), pixels.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _apart(a: Head, b: Head) -> bool:
    """Whether neither head with its neck and shoulders hides the other's face."""
    small, large = sorted((a, b), key=lambda h: h.scale)
    (x, y), (u, v) = small.matrix @ (0, 0.5, 1), large.matrix @ (0, 0.5, 1)
    s, t = small.scale, large.scale
    beside = abs(x - u) > 1.35 * s + (2.2 * t if y > v + 1.2 * t else 1.4 * t)
    above = v - y > 1.7 * s + 1.7 * t
    return bool(beside or above)


def _separate(a: Box, b: Box, gap: float = 2) -> bool:
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


def _painted(pixels: np.ndarray, lips: np.ndarray, paint: np.ndarray) -> np.ndarray:
    made: np.ndarray = np.clip(np.rint(pixels + lips * (paint - pixels)), 0, 255).astype(np.uint8)
    return made
