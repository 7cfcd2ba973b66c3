"""The bodies of rendered people: head, neck and shoulders of the bundled model `morphable-head`, and what it lacks around it.

    Bust.bundled()                                 the model with its 68 points, mirrored and shadowed; made once in a process
    bust.eyeballs(...), .mouth(...), .body(...)    what is added to a face
    joined(bust, vertices, sheets)                 all of it as one surface

The model has no eyeballs, teeth and body. Eyeballs are spheres where the source has them (centre 3.09, 3.61, 7.96, radius 1.5
on the mean face), moved with the eye's corners; the mouth is a bowl with teeth that hang on the skull; the shoulders' rim is drawn
out downwards. Model axes and units as in `head.morphable`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from visagist.head.mesh import normals
from visagist.head.morphable import EYES, Morphable
from visagist.head.render import rasterise
from visagist.weights import store

FACE = 6706  # the first vertices are the narrow face, on which the 68 points lie
BUST = 11248
EYEBALL = np.array([3.09, 3.61, 7.96])
RADIUS = 1.50
DIRECTIONS = 64  # from which light is looked for

# Parts of a surface.
SKIN, EYE, MOUTH, BODY, HAIR, FRAME = range(6)


@dataclass(frozen=True, eq=False)
class Surface:
    """Vertices float32 [N, 3]; triangles int [F, 3] with `part` uint8 [F]; place float32 [N, 3]: where a vertex lies on its chart,
    which for the bust is its place on the mean head; seen float32 [N, K] in 0..1: how much light comes from each direction."""

    vertices: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    place: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True, eq=False)
class Sheet:
    """A grid of places that becomes a part of a surface: vertices [R, C, 3], place [R, C, 3], which way it is seen."""

    part: int
    vertices: np.ndarray
    place: np.ndarray
    both: bool = False  # seen from both sides
    closed: bool = False  # the last column is joined to the first

    def triangles(self) -> np.ndarray:
        """int [F, 3]: rows go down and columns to the right where the sheet is seen from its front."""
        rows, columns = self.vertices.shape[:2]
        number = np.arange(rows * columns).reshape(rows, columns)
        if self.closed:
            number = np.concatenate([number, number[:, :1]], axis=1)
        a, b, c, d = (q.ravel() for q in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
        return np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)])

    def sides(self) -> list[Sheet]:
        """The sheet, and its back as a sheet of its own where that is seen, too: normals differ."""
        if not self.both:
            return [self]
        back = Sheet(self.part, self.vertices[:, ::-1], self.place[:, ::-1], closed=self.closed)
        return [Sheet(self.part, self.vertices, self.place, closed=self.closed), back]


@dataclass(frozen=True, eq=False)
class Bust:
    """The model and what follows from its mean once."""

    model: Morphable
    narrow: Morphable = field(repr=False)

    @staticmethod
    @cache
    def bundled() -> Bust:
        """Of the weights that came with the package. WeightsError when they are damaged."""
        tensors, card = store.read(store.path("morphable-head"))
        kept = {name.partition(".")[2]: value.numpy() for name, value in tensors.items()}
        told = card.settings["names"]
        names = [str(name) for name in told] if isinstance(told, list) else []
        named = dict(zip(names, kept["named"].astype(np.float64), strict=True))
        triangles, landmarks = kept["triangles"].astype(np.int64), kept["landmarks"].astype(np.int64)
        model = Morphable(
            kept["mean"].reshape(-1, 3),
            kept["identity"],
            kept["expression"],
            triangles,
            landmarks,
            kept["mirror"].astype(np.int64),
            named,
        )
        return Bust.of(model)

    @classmethod
    def of(cls, model: Morphable) -> Bust:
        """With the narrow face as a model of its own: the jaw's outline slides over that alone, never onto an ear."""
        inside = model.triangles[(model.triangles < FACE).all(1)]
        narrow = Morphable(
            model.mean[:FACE], model.identity[:0, :FACE], model.expression[:0, :FACE], inside, model.landmarks, np.arange(FACE), {}
        )
        return cls(model, narrow)

    @cached_property
    def basis(self) -> np.ndarray:
        """Identity and expression flat, float32 [I + E, 3 N]: one product makes a shape."""
        both = np.concatenate([self.model.identity, self.model.expression])
        return np.ascontiguousarray(both.reshape(len(both), -1), np.float32)

    def shape(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """float32 [N, 3]"""
        made: np.ndarray = np.concatenate([identity, expression]).astype(np.float32) @ self.basis
        return made.reshape(-1, 3) + self.model.mean

    @cached_property
    def held(self) -> np.ndarray:
        """How much each vertex turns with the head, float32 [N]: 1 down to the throat, 0 on the shoulders."""
        low = -self.model.mean[:, 1] - 0.35 * self.model.mean[:, 2]
        return np.asarray(_step((14.5 - low) / 5.5), np.float32)

    @cached_property
    def ear(self) -> np.ndarray:
        """How much each vertex belongs to an ear, float32 [N]."""
        x, y, z = self.model.mean.T
        number = np.arange(len(x))
        inside = (number >= FACE) & (number < 9409) & (np.abs(x) > 7.15) & (y > -2.3) & (y < 5.5) & (z > -3.6) & (z < 2.6)
        return inside.astype(np.float32)

    @cached_property
    def beside_ear(self) -> np.ndarray:
        """1 on and about the ears, falling to 0 at 2.4 cm from them, float32 [N]: hair that stands off must not pull them along."""
        mean = self.model.mean
        ears = mean[self.ear > 0][::4]
        near = np.sqrt(np.square(mean[:, None] - ears).sum(2).min(1))
        return np.asarray(1 - _step((near - 0.3) / 2.1), np.float32)

    @cached_property
    def rim(self) -> np.ndarray:
        """The vertices [R] at the lower rim of the shoulders, in order around the body."""
        edges = np.concatenate([self.model.triangles[:, [0, 1]], self.model.triangles[:, [1, 2]], self.model.triangles[:, [2, 0]]])
        count = len(self.model.mean)
        there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
        alone = edges[~np.isin(there, back)]  # of one triangle only
        after = {int(a): int(b) for a, b in alone if self.model.mean[[a, b], 1].max() < -12}
        start = min(after)
        ring = [start]
        while after.get(ring[-1], start) != start and len(ring) <= len(after):
            ring.append(after[ring[-1]])
        return np.array(ring)

    @cached_property
    def directions(self) -> np.ndarray:
        """Unit vectors float32 [K, 3] all around, the second half the mirror images of the first."""
        half = DIRECTIONS // 2
        k = np.arange(2 * half) + 0.5
        y, angle = 1 - k / half, np.pi * (1 + 5**0.5) * k
        across = np.sqrt(1 - y * y)
        every = np.stack([across * np.cos(angle), y, across * np.sin(angle)], axis=1)
        every = every[np.argsort(-every[:, 0])][:half]
        return np.concatenate([every, every * (-1, 1, 1)]).astype(np.float32)

    @cached_property
    def seen(self) -> np.ndarray:
        """Which directions each vertex of the mean bust sees, float32 [N, K] in 0..1: shadows of nose, brows and chin."""
        mean, triangles = self.model.mean.astype(np.float64), self.model.triangles
        outwards = normals(mean, triangles)
        half = DIRECTIONS // 2
        seen = np.empty((len(mean), 2 * half), np.float32)
        for number, way in enumerate(self.directions[:half].astype(np.float64)):
            right = np.cross((0.0, 1.0, 0.0) if abs(way[1]) < 0.9 else (1.0, 0.0, 0.0), way)
            right /= np.linalg.norm(right)
            up = np.cross(way, right)
            placed = (mean + 0.15 * outwards) @ np.stack([right, -up, -way], axis=1) * 2.6  # pixels of 4 mm
            placed[:, :2] -= placed[:, :2].min(0) - 1
            size = np.ceil(placed[:, :2].max(0)).astype(int) + 2
            depth = rasterise(placed, triangles, (int(size[1]), int(size[0]))).depth
            x, y = placed[:, 0].astype(int), placed[:, 1].astype(int)
            behind = placed[:, 2] - depth[y, x]
            seen[:, number] = 1 - _step((behind - 1.0) / 3.0)
        seen[:, half:] = seen[self.model.mirror][:, :half]
        return seen

    @cached_property
    def inwards(self) -> np.ndarray:
        """How far inside the narrow face each of its vertices lies, float32 [FACE]: 0 at its edge, 1 from 1.5 cm on."""
        triangles = self.narrow.triangles
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        alone = edges[~np.isin(edges[:, 0] * FACE + edges[:, 1], edges[:, 1] * FACE + edges[:, 0])]
        rim = self.narrow.mean[np.unique(alone)]
        rim = rim[np.hypot(rim[:, 0] / 5.5, (rim[:, 1] + 0.5) / 7.5) > 1]  # eyes, nostrils and mouth have rims, too
        near = np.sqrt(np.square(self.narrow.mean[:, None] - rim).sum(2).min(1))
        return np.asarray(_step(near / 1.5), np.float32)

    # what the model lacks

    def eyeballs(self, shape: np.ndarray, gaze: tuple[float, float]) -> list[Sheet]:
        """The front halves of two balls for this neutral face [N, 3]; gaze: degrees to the picture's right and up.

        place: the eye's own disc, the pupil in the middle (0, 0), 1 at a right angle to the gaze; third 0 right, 1 left eye.
        """
        polar, around = np.meshgrid(np.linspace(0, 1.75, 13), np.linspace(0, 2 * np.pi, 25)[:-1], indexing="ij")
        ball = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=2)
        yaw, pitch = np.deg2rad(gaze)
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
        made = []
        for number, eye in enumerate(EYES):
            corners = self.model.landmarks[eye]
            centre = EYEBALL * (1 if number else -1, 1, 1) + (shape[corners] - self.model.mean[corners]).mean(0)
            disc = polar / (np.pi / 2)
            place = np.stack([disc * np.cos(around), disc * np.sin(around), np.full_like(disc, number)], axis=2)
            made.append(Sheet(EYE, RADIUS * ball @ turn.T + centre, place, closed=True))
        return made

    def mouth(self, shape: np.ndarray, open_by: float) -> list[Sheet]:
        """A dark bowl behind the lips and the upper teeth, for this face without expression [N, 3].

        place: (x, y) in 0..1 and third 0 bowl, 1 upper teeth, 2 lower teeth. open_by: how far the jaw has dropped.
        """
        right, left = shape[self.model.landmarks[60]], shape[self.model.landmarks[64]]
        middle = (shape[self.model.landmarks[62]] + shape[self.model.landmarks[66]]) / 2
        t, h = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(0, 1, 6))
        half = np.linalg.norm(left - right) / 2
        bow = middle[2] - 1.5 - 2.4 * t**2  # the arch of the teeth
        made = []
        for kind, low, high in ((1.0, -0.45, 0.75), (2.0, -0.62 - 0.9 * open_by, -1.5 - 0.9 * open_by)):
            y = middle[1] + high + (low - high) * h if kind == 1 else middle[1] + low + (high - low) * h
            depth = bow - (0.25 if kind == 2 else 0.0) - 0.15 * (1 - h if kind == 1 else h)
            grid = np.stack([middle[0] + t * half * 0.74, y, depth], axis=2)
            made.append(Sheet(MOUTH, grid, np.stack([(t + 1) / 2, h if kind == 1 else 1 - h, np.full_like(t, kind)], axis=2)))
        v, u = np.meshgrid(np.linspace(np.pi / 2, -np.pi / 2, 9), np.linspace(-np.pi / 2, np.pi / 2, 13), indexing="ij")
        x, down = 1.5 * half * np.sin(u) * np.cos(v), np.where(v < 0, 1.5 + 0.9 * open_by, 1.6)
        hollow = middle[2] - 0.9 - 0.15 * x**2 - 0.9 * np.sin(v) ** 2 - 2.6 * np.cos(u) * np.cos(v)
        bowl = np.stack([middle[0] + x, middle[1] + down * np.sin(v), hollow], axis=2)
        return [Sheet(MOUTH, bowl, np.stack([u / np.pi + 0.5, 0.5 - v / np.pi, np.zeros_like(u)], axis=2), both=True), *made]

    def body(self, shape: np.ndarray, broad: float) -> Sheet:
        """The shoulders' rim drawn out downwards. place: as on the bust, so that clothes go on."""
        ring, own = shape[self.rim], self.model.mean[self.rim]
        grown, rest = [ring], [own]
        for down, wide, deep in ((1.0, 1.13, 1.03), (3.0, 1.30, 1.08), (7.0, 1.42, 1.12), (40.0, 1.48, 1.15)):
            factor = np.array([1 + (wide - 1) * broad, 1.0, deep])
            grown.append(ring * factor - (0, down, 0))
            rest.append(own * factor - (0, down, 0))
        return Sheet(BODY, np.stack(grown), np.stack(rest), closed=True)


def joined(bust: Bust, vertices: np.ndarray, sheets: list[Sheet]) -> Surface:
    """The bust [N, 3] and the sheets as one surface."""
    points, places, seen = [vertices.astype(np.float32)], [bust.model.mean.astype(np.float32)], [bust.seen]
    triangles, part = [bust.model.triangles], [np.zeros(len(bust.model.triangles), np.uint8)]
    count = len(vertices)
    for sheet in [side for both in sheets for side in both.sides()]:
        points.append(sheet.vertices.reshape(-1, 3).astype(np.float32))
        places.append(sheet.place.reshape(-1, 3).astype(np.float32))
        share = {EYE: 0.85, MOUTH: 0.35}.get(sheet.part, 0.95)
        seen.append(np.full((len(points[-1]), DIRECTIONS), share, np.float32))
        of = sheet.triangles()
        triangles.append(of + count)
        part.append(np.full(len(of), sheet.part, np.uint8))
        count += len(points[-1])
    return Surface(*(np.concatenate(v) for v in (points, triangles, part, places, seen)))


def _step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(x, 0, 1)
    smooth: np.ndarray = t * t * (3 - 2 * t)
    return smooth
