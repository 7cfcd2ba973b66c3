"""What a rendered person's surface looks like: skin, brows, lips and hair painted on a chart of the head; and cloth.

The chart is the mean head unrolled about its upright axis: x is the angle from the front times 10 cm, y the height, in centimetres;
so it is almost true to scale on the face. `Chart.of` paints it once a person, `Chart.at` reads it wherever the surface is seen.
Colours are albedos in linear light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from visagist.head.annotated import offsets
from visagist.head.morphable import Morphable
from visagist.training.data.persons import Person

TOP, BOTTOM = 15.0, -19.4  # heights that the chart holds; what lies beyond looks like its edge
ROUND = 10 * np.pi  # x at the back of the head
GRAIN = 512  # side of the noise tiles

NECKS = {"tee": 1.2, "shirt": 2.4, "suit": 5.5, "pullover": 0.0}  # how deep the collar is cut before the throat

# What a place of the chart is, in the picture of classes.
CLASSES = ("background", "skin", "brow", "lips", "hair", "beard", "clothes", "eye", "mouth", "glasses")


@cache
def grain(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tiles float32 [512, 512] of mean 0 and deviation 1, without seams: clouds, fine grain, and upright streaks like hair."""
    rng = np.random.default_rng((seed, 77))

    def smooth(across: float, along: float) -> np.ndarray:
        white = rng.standard_normal((GRAIN, GRAIN)).astype(np.float32)
        tiled = np.tile(white, (3, 3))
        made = cv2.GaussianBlur(tiled, (0, 0), sigmaX=across, sigmaY=along)[GRAIN : 2 * GRAIN, GRAIN : 2 * GRAIN]
        return (made - made.mean()) / made.std()

    clouds = 0.7 * smooth(28, 28) + 0.5 * smooth(11, 11) + 0.4 * smooth(4, 4)
    fine = 0.7 * smooth(0.9, 0.9) + 0.6 * smooth(2.0, 2.0)
    streaks = 0.8 * smooth(0.8, 24) + 0.5 * smooth(2.5, 30) + 0.3 * smooth(6, 40)
    return clouds / clouds.std(), fine / fine.std(), streaks / streaks.std()


def unrolled(place: np.ndarray) -> np.ndarray:
    """x and y on the chart, in centimetres, of places on the mean head [..., 3]."""
    return np.stack([np.arctan2(place[..., 0], place[..., 2]) * 10, place[..., 1]], axis=-1)


def hair_edge(person: Person, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights between which hair grows at chart positions x: its lower and its upper end."""
    f, recess = person.hairline, person.recess
    turn = np.abs(x) / 10 * 180 / np.pi
    at = [0, 16, 30, 42, 54, 62, 72, 78, 98, 108, 130, 180]
    burn = {"cropped": 2.2, "short": 1.2, "full": -0.5, "fringe": 2.5, "afro": 1.0, "long": -3.0}.get(person.style, 2.0)
    side = 5.2 if person.style != "long" else 3.2
    low = [
        f,
        f + 0.1 + 0.2 * recess,
        f + 0.2 + recess,
        f - 0.6 + recess,
        min(f - 2.6, 7.5) + 0.6 * recess,
        burn + 1.4,
        burn,
        side,
        side,
        -1.5,
        -5.2,
        -6.2,
    ]
    line = np.interp(turn, at, low)
    high = np.full_like(line, 99.0)
    if person.style == "fringe":
        high = np.interp(turn, [0, 50, 70, 110, 180], [-9.0, -9.0, 7.2, 8.5, 7.5])
    elif person.style == "bald":
        high[:] = -99.0
    elif person.style == "cap":
        line = np.interp(turn, [0, 60, 90, 130, 180], [8.0, 6.0, 4.2, 1.5, 0.5])
    elif person.style == "scarf":
        line = np.interp(turn, [0, 25, 45, 60, 70, 180], [8.8, 8.2, 6.0, -2.0, -30.0, -30.0])
    return line, high


def clothed(person: Person, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far places on the mean body [P, 3] lie below the collar's edge, in centimetres, and the cloth's colour there [P, 3].

    Cloth is woven in space, not on the chart, which is distorted on the shoulders.
    """
    x, y, z = place.T.astype(np.float32)
    front = np.abs(x)
    rng = np.random.default_rng((person.seed, 6))
    collar = (
        (-11.4 if person.wear == "pullover" else -12.3) + 0.12 * z - NECKS[person.wear] * np.clip(1 - front / 5, 0, 1) * (z > -2)
    )
    clouds, fine, _ = grain()
    u, v = (x * 11).astype(int) % GRAIN, ((y - 0.7 * z) * 11).astype(int) % GRAIN
    tone = 1 + 0.13 * clouds[v, u] + 0.05 * fine[v, u]
    first, second = (np.asarray(c, np.float32) for c in person.garment)
    colour = np.broadcast_to(first, place.shape)
    if person.pattern != "plain":
        often = rng.uniform(1.5, 5)
        lines = np.sin(x * often if rng.random() < 0.5 else (y - 0.5 * z) * often) > rng.uniform(-0.2, 0.7)
        if person.pattern == "checks":
            lines ^= np.sin((y - 0.5 * z) * often) > 0.3
        colour = np.where(lines[:, None], 0.55 * first + 0.45 * second, colour)
    below = collar - y
    if person.wear in ("suit", "shirt"):  # a shirt in the jacket's opening, or a row of buttons
        if person.wear == "suit":
            inside = (front < 0.5 + 0.42 * (below + 3 * (1 - front / 5)).clip(0)) & (front < 4.5) & (z > 0)
            colour = np.where(inside[:, None], np.float32(0.72), colour)
            tie = (front < 0.8 + 0.05 * below.clip(0)) & inside & (not person.female)
            colour = np.where(tie[:, None], second * 0.7, colour)
        else:
            colour = np.where(((front < 0.12) & (z > 0))[:, None], first * 0.6, colour)
    shadow = 1 - 0.35 * np.exp(-0.5 * np.square(below / 0.2))
    return below, colour * (tone * shadow)[:, None]


@dataclass(frozen=True, eq=False)
class Chart:
    """albedo float32 [H, W, 3]; kind uint8 [H, W], see CLASSES; scale: pixels a centimetre."""

    albedo: np.ndarray
    kind: np.ndarray
    scale: float

    @classmethod
    def of(cls, person: Person, model: Morphable, scale: float) -> Chart:
        """The chart of this person; scale: its pixels a centimetre."""
        canvas = Painting.blank(scale, person, unrolled(model.mean[model.landmarks] + offsets()))
        canvas.skin()
        canvas.lines()
        canvas.lips()
        canvas.eyes()
        canvas.beard()
        canvas.brows()
        canvas.hair()
        return cls(np.clip(canvas.albedo, 0.004, 0.95), canvas.kind, scale)

    def at(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Albedo float32 [P, 3] and kind uint8 [P] at places on the mean head [P, 3]."""
        xy = unrolled(place)
        u = ((xy[:, 0] + ROUND) * self.scale - 0.5).astype(np.float32)
        v = ((TOP - np.clip(xy[:, 1], BOTTOM, TOP)) * self.scale - 0.5).astype(np.float32)
        count = len(u)
        rows = -(-count // 4096)  # cv2.remap takes pictures of up to 32767 pixels a side
        u, v = (np.resize(c, rows * 4096).reshape(rows, 4096) for c in (u, v))
        albedo = cv2.remap(self.albedo, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 3)[:count]
        kind = cv2.remap(self.kind, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE).ravel()[:count]
        return albedo, kind


@dataclass(eq=False)
class Painting:
    """A chart while it is painted; points [68, 2] on it, in centimetres."""

    albedo: np.ndarray
    kind: np.ndarray
    scale: float
    person: Person
    points: np.ndarray
    rng: np.random.Generator
    x: np.ndarray  # [W]
    y: np.ndarray  # [H, 1]
    noise: tuple[np.ndarray, np.ndarray, np.ndarray]  # clouds, fine, streaks, as large as the chart

    @classmethod
    def blank(cls, scale: float, person: Person, points: np.ndarray) -> Painting:
        width, height = round(2 * ROUND * scale), round((TOP - BOTTOM) * scale)
        rng = np.random.default_rng(person.seed)
        x = (np.arange(width, dtype=np.float32) + 0.5) / scale - np.float32(ROUND)
        y = np.float32(TOP) - (np.arange(height, dtype=np.float32)[:, None] + 0.5) / scale
        noise = tuple(_laid(tile, height, width, rng) for tile in grain())
        albedo = np.empty((height, width, 3), np.float32)
        albedo[:] = person.skin
        return cls(albedo, np.ones((height, width), np.uint8), scale, person, points, rng, x, y, noise)  # type: ignore[arg-type]

    # the tools

    def lay(
        self, mask: np.ndarray, colour: np.ndarray | tuple[float, ...], kind: int = 0, corner: tuple[int, int] = (0, 0)
    ) -> None:
        """Paint a colour, or colours as large as the mask, where the mask [h, w] in 0..1 says; corner: its first row and column."""
        part = self.albedo[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]]
        part += mask[..., None] * (np.asarray(colour, np.float32) - part)
        if kind:
            self.kind[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]][mask > 0.5] = kind

    def drawn(self, shapes: list[np.ndarray], *, wide: float = 0, soft: float = 0.05) -> tuple[np.ndarray, tuple[int, int]]:
        """Polygons in centimetres, filled, or as lines `wide` centimetres thick, with soft edges: a mask and its corner."""
        every = np.concatenate(shapes)
        room = 3 * soft + wide + 0.2
        low = np.maximum(np.floor(self._pixels(every).min(0) - room * self.scale).astype(int), 0)
        high = np.ceil(self._pixels(every).max(0) + room * self.scale).astype(int) + 1
        high = np.minimum(high, self.kind.shape[::-1])
        mask = np.zeros((max(high[1] - low[1], 1), max(high[0] - low[0], 1)), np.uint8)
        placed = [np.round((self._pixels(shape) - low - 0.5) * 16).astype(np.int32) for shape in shapes]
        if wide:
            cv2.polylines(mask, placed, False, 255, max(1, round(wide * self.scale)), cv2.LINE_AA, 4)
            faint = min(1.0, wide * self.scale)
        else:
            cv2.fillPoly(mask, placed, 255, cv2.LINE_AA, 4)
            faint = 1.0
        made = cv2.GaussianBlur(mask, (0, 0), max(soft * self.scale, 0.3)).astype(np.float32) * np.float32(faint / 255)
        return made, (int(low[1]), int(low[0]))

    def blob(self, x: float, y: float, wide: float, high: float, amount: float, tint: tuple[float, float, float]) -> None:
        """Multiply the colour about a place by 1 + amount * tint, both sides of the face alike."""
        for at in (x, -x) if x else (x,):
            column, row = self._pixels(np.array([[at, y]]))[0]
            w, h = wide * self.scale * 2.4, high * self.scale * 2.4
            x0, x1 = max(int(column - w), 0), min(int(column + w) + 1, self.kind.shape[1])
            y0, y1 = max(int(row - h), 0), min(int(row + h) + 1, self.kind.shape[0])
            across = np.exp(-0.5 * np.square((self.x[x0:x1] - at) / wide))
            along = np.exp(-0.5 * np.square((self.y[y0:y1] - y) / high))
            self.albedo[y0:y1, x0:x1] *= 1 + (amount * along * across)[..., None] * np.asarray(tint, np.float32)

    def _pixels(self, places: np.ndarray) -> np.ndarray:
        return (places * (1, -1) + (ROUND, TOP)) * self.scale

    # the layers, from the skin outwards

    def skin(self) -> None:
        """Blood, melanin, tired eyes, pores, freckles and moles."""
        p = self.person
        clouds, fine, _ = self.noise
        dark = 0.25 + 0.75 * min(1.0, float(np.mean(p.skin)) * 2)  # of dark skin blood shows less
        red, brown = (0.5, -0.42, -0.34), (-0.5, -0.62, -0.62)
        for x, y, w, h, amount in (
            (5.0, 0.0, 2.0, 1.7, 0.36), (0.0, 0.2, 1.0, 1.0, 0.34), (0.0, -6.8, 1.6, 1.0, 0.18), (13.6, 1.5, 1.6, 3.0, 0.30),
            (0.0, 8.0, 5.0, 1.5, 0.06),
        ):  # fmt: skip
            self.blob(x, y, w, h, amount * p.ruddy * dark, red)
        self.blob(3.0, 2.4, 1.5, 0.55, 0.10 + 0.34 * p.age, (-0.55, -0.62, -0.42))  # under the eyes
        self.blob(3.3, 4.3, 1.7, 0.55, 0.22 + 0.3 * p.paint, (-0.42, -0.55, -0.50))  # lids
        self.blob(0.66, -0.95, 0.33, 0.22, 0.8, (-0.8, -0.9, -0.9))  # nostrils
        self.blob(0.0, -9.5, 4.5, 1.2, 0.15, brown)  # under the chin
        uneven = 1 + 0.035 * clouds + (0.018 + 0.025 * p.age) * fine
        self.albedo *= uneven[..., None]
        self.albedo[..., 0] *= 1 + 0.03 * dark * np.roll(clouds, 131, 1)
        if p.freckles:
            count = int(500 * p.freckles)
            at = self.rng.normal((0, 1.8), (4.6, 2.6), (count, 2))
            self._dots(at, self.rng.uniform(0.05, 0.13, count), 0.34 * p.freckles)
        spots = p.moles + int(26 * max(p.age - 0.65, 0))
        at = self.rng.uniform((-9, -8), (9, 9), (spots, 2))
        self._dots(at, self.rng.uniform(0.07, 0.2, spots), 0.45)

    def _dots(self, places: np.ndarray, radii: np.ndarray, strong: float) -> None:
        mask = np.zeros(self.kind.shape, np.uint8)
        for (u, v), radius in zip(np.round(self._pixels(places) * 16).astype(int), radii, strict=True):
            cv2.circle(mask, (int(u), int(v)), max(int(radius * self.scale * 16), 6), 255, -1, cv2.LINE_AA, 4)
        low, high = (int((TOP - y) * self.scale) for y in (11, -10))
        self.albedo[low:high] *= 1 - strong * (mask[low:high, :, None] * np.float32(1 / 255)) * np.array(
            [0.75, 1.0, 1.1], np.float32
        )

    def lines(self) -> None:
        """What age draws: beside nose and mouth, on the forehead, about the eyes."""
        p = self.person
        shapes: list[tuple[float, list[np.ndarray]]] = []
        for side in (-1, 1):
            nose = np.array([[1.9, -0.4], [2.7, -1.6], [3.3, -3.0], [3.5, -4.2]])
            shapes.append((0.10 + 0.35 * p.age, [nose * (side, 1)]))
            if p.age > 0.35:
                crow = [np.array([[6.2, 3.4 + d], [7.6, 3.6 + 2.2 * d]]) * (side, 1) for d in (-0.4, 0.0, 0.4)]
                shapes.append((0.45 * (p.age - 0.2), crow))
                shapes.append((0.4 * (p.age - 0.2), [np.array([[3.1, -4.3], [3.3, -5.6], [3.0, -6.4]]) * (side, 1)]))
                shapes.append((0.45 * (p.age - 0.2), [np.array([[1.8, 2.5], [3.0, 1.7], [4.4, 1.9]]) * (side, 1)]))
                shapes.append((0.4 * (p.age - 0.2), [np.array([[0.55, 4.6], [0.6, 6.2]]) * (side, 1)]))
        if p.age > 0.3:
            t = np.linspace(-1, 1, 9)
            brow = [np.stack([t * 4.6, y + 0.25 * np.cos(2.2 * t) + self.rng.normal(0, 0.07, 9)], 1) for y in (7.4, 8.3, 9.1)]
            shapes.append((0.45 * (p.age - 0.2), brow))
        for strong, lines in shapes:
            mask, corner = self.drawn(lines, wide=0.16, soft=0.10)
            part = self.albedo[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]]
            part *= 1 - 1.5 * strong * mask[..., None] * np.array([0.7, 1.0, 1.0], np.float32)

    def lips(self) -> None:
        outer = _rounded(self.points[48:60])
        mask, corner = self.drawn([outer], soft=0.09)
        tex = self.noise[2][corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]]
        self.lay(0.92 * mask, np.asarray(self.person.lips, np.float32) * (1 + 0.05 * tex[..., None]), 3, corner)
        corners, at = self.drawn([self.points[[60, 61, 62, 63, 64]]], wide=0.10, soft=0.06)
        self.lay(0.75 * corners, np.asarray(self.person.lips) * 0.25, 0, at)

    def eyes(self) -> None:
        """Lashes, the lids' fold, eye shadow."""
        p = self.person
        lash = np.array((0.02, 0.014, 0.012))
        for eye in (self.points[36:42], self.points[42:48]):
            upper = eye[[0, 1, 2, 3]]
            fold = upper + np.array([0, 0.42])
            if p.paint > 0.5:
                lid = np.concatenate([upper, (upper + np.array([0, 0.8]))[::-1]])
                mask, corner = self.drawn([lid], soft=0.25)
                self.lay(0.5 * p.paint * mask, np.asarray(p.skin) * (0.42, 0.32, 0.36), 0, corner)
            mask, corner = self.drawn([_smoothed(fold)], wide=0.10, soft=0.09)
            self.lay(0.4 * mask, np.asarray(p.skin) * (0.42, 0.32, 0.3), 0, corner)
            mask, corner = self.drawn([_smoothed(upper)], wide=0.15 + 0.14 * p.paint, soft=0.05)
            self.lay((0.75 + 0.2 * p.paint) * mask, lash, 0, corner)
            mask, corner = self.drawn([_smoothed(eye[[0, 5, 4, 3]])], wide=0.10, soft=0.05)
            self.lay((0.30 + 0.35 * p.paint) * mask, np.asarray(p.skin) * (0.4, 0.25, 0.25), 0, corner)

    def brows(self) -> None:
        """Strokes of hair along the points of the brows, over a soft shadow."""
        p = self.person
        for points, side in ((self.points[17:22], -1), (self.points[22:27][::-1], 1)):
            spine = _smoothed(points, 24)  # from the temple inwards
            t = np.linspace(0, 1, len(spine))
            half = p.brow_thick * (0.25 + 0.35 * np.sin(np.pi * (0.12 + 0.7 * t)))
            outline = np.concatenate([spine + np.stack([0 * t, half], 1), (spine - np.stack([0 * t, half * 0.9], 1))[::-1]])
            mask, corner = self.drawn([outline], soft=0.14)
            self.lay(0.55 * p.brow_dense * mask, p.brows, 2, corner)
            count = int(46 * (0.5 + p.brow_dense))
            k = self.rng.integers(0, len(spine), count)
            root = spine[k] + np.stack([self.rng.normal(0, 0.1, count), self.rng.uniform(-0.9, 0.8, count) * half[k]], 1)
            long = self.rng.uniform(0.35, 0.75, count) * (0.6 + 0.4 * p.brow_thick)
            up = np.deg2rad(70 - 65 * (1 - t[k]) + self.rng.normal(0, 10, count))
            tip = root + np.stack([side * np.cos(up) * long, np.sin(up) * long * 0.8], 1)
            mask, corner = self.drawn([np.stack(ends) for ends in zip(root, tip, strict=True)], wide=0.055, soft=0.03)
            self.lay(np.minimum(1.7 * p.brow_dense * mask, 0.95), np.asarray(p.brows) * 0.8, 2, corner)

    def beard(self) -> None:
        """Hair on lip, chin and jaw; a shadow of it where a man has shaved."""
        p = self.person
        if p.female:
            return
        lip = np.array([[-2.9, -3.6], [-2.2, -1.9], [0, -1.45], [2.2, -1.9], [2.9, -3.6], [1.6, -2.7], [0, -2.45], [-1.6, -2.7]])
        chin = np.array(
            [[-2.9, -3.4], [-3.3, -5.5], [-2.4, -8.6], [2.4, -8.6], [3.3, -5.5], [2.9, -3.4], [1.5, -4.9], [-1.5, -4.9]]
        )
        cheek = np.array([[10.9, 1.5], [9.6, -1.6], [6.6, -2.9], [4.6, -3.0], [3.0, -3.6], [2.2, -4.8]])
        under = np.array([[12.3, 1.5], [12.0, -4.5], [8.0, -9.5], [0.0, -11.0]])
        jaw = np.concatenate([cheek * (-1, 1), cheek[::-1], under, under[-2::-1] * (-1, 1)])
        shapes = {"moustache": [lip], "goatee": [lip, chin], "beard": [lip, jaw], "stubble": [lip, jaw], "none": [lip, jaw]}[
            p.beard
        ]
        mask, corner = self.drawn(shapes, soft=0.35)
        part = tuple(slice(c, c + n) for c, n in zip(corner, mask.shape, strict=True))
        inner, at = self.drawn([_rounded(self.points[48:60])], soft=0.08)
        bare = np.zeros(self.kind.shape, np.float32)
        bare[at[0] : at[0] + inner.shape[0], at[1] : at[1] + inner.shape[1]] = inner
        mask *= 1 - bare[part]
        _, fine, streaks = (n[part] for n in self.noise)
        if p.beard in ("none", "stubble"):
            strong = 0.10 if p.beard == "none" else 0.2 + 0.5 * p.beard_dense
            self.lay(
                mask * np.clip(strong * (1 + 0.5 * fine), 0, 0.8),
                np.asarray(p.hair) * 0.5 + 0.012,
                5 if p.beard == "stubble" else 0,
                corner,
            )
            return
        cover = np.clip(p.beard_dense * mask * 1.25 + 0.12 * streaks * mask, 0, 0.97)
        self.lay(
            cover, np.asarray(p.hair, np.float32) * np.clip(0.85 + 0.28 * streaks + 0.12 * fine, 0.25, 2)[..., None], 5, corner
        )

    def hair(self) -> None:
        """Where hair, a cap or a scarf covers the head."""
        p = self.person
        clouds, fine, streaks = self.noise
        low, high = hair_edge(p, self.x)
        cloth = p.style in ("cap", "scarf")
        ragged = 0.0 if cloth else 0.22 * streaks + 0.25 * clouds
        soft = 0.12 if cloth else 0.45 if p.style in ("cropped", "fringe") else 0.28
        mask = np.clip((self.y - low.astype(np.float32) + ragged) / soft, 0, 1) * np.clip(
            (high.astype(np.float32) - self.y + ragged) / 0.6, 0, 1
        )
        if p.style == "cropped":
            mask *= np.clip(0.82 + 0.10 * fine, 0, 1)
        elif p.style == "fringe":
            mask *= np.clip(0.75 + 0.25 * streaks, 0, 1)
        row = int(min((TOP - max(low.min(), BOTTOM)) * self.scale + 4, len(mask)))
        if cloth:
            ribs = 0.12 * np.sin(self.x * 7) if p.style == "cap" else 0.0
            colour = np.asarray(p.garment[1], np.float32) * np.clip(1 + 0.12 * clouds + 0.05 * fine + ribs, 0.3, 1.5)[..., None]
        else:
            curls = np.roll(fine, 57, 0) if p.style == "afro" else streaks
            colour = np.asarray(p.hair, np.float32) * np.clip(0.92 + 0.30 * curls + 0.12 * clouds, 0.3, 2.2)[..., None]
        self.lay(mask[:row], colour[:row], 6 if cloth else 4)
        # the shadow that hair throws on the skin before it
        if p.style not in ("bald", "fringe", "cropped"):
            dark = np.exp(-np.square(np.clip(low.astype(np.float32) - self.y, 0, None) / 0.7)) * (1 - mask)
            self.albedo[:row] *= 1 - 0.38 * dark[:row, :, None]


def _laid(tile: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A part of the endless tile, from anywhere in it."""
    rolled = np.roll(tile, rng.integers(0, GRAIN, 2), (0, 1))
    return np.tile(rolled, (-(-height // GRAIN), -(-width // GRAIN)))[:height, :width]


def _smoothed(points: np.ndarray, count: int = 12) -> np.ndarray:
    """A smooth line through points [P, 2] (Catmull-Rom)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, len(points) - 1 - 1e-9, count)
    k, f = t.astype(int), (t % 1)[:, None]
    a, b, c, d = (padded[k + i] for i in range(4))
    line: np.ndarray = 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)
    return line


def _rounded(points: np.ndarray) -> np.ndarray:
    """A smooth closed outline through points [P, 2]."""
    again = np.concatenate([points[-2:], points, points[:2]])
    return _smoothed(again, 8 * (len(again) - 1) + 1)[16 : 17 + 8 * len(points)]
