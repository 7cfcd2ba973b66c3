"""Rendered people: heads of our own morphable model with procedural skin, hair, glasses and clothes, in any light, turned as far as
a profile; exact boxes, 68 points, poses and masks. No photograph of anybody is involved, unless `learnt` skin is asked for.

    rendered.items(100, seed=0)         like `made_up.items`: pictures drawn on first use, labels known before
    picture, face, kind = rendered.portrait(np.random.default_rng(0), 256)

Everything follows from a seed. A picture of 128 x 128 takes some 50 ms of one core.

Points: the 51 inner ones are fixed to the face, where they are hidden as well; the 17 of the jaw lie on the visible outline, as
they do in labelled photographs. All stand where annotators set them (`head.annotated`). Pose by the house convention
(`head.fit.turn_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import cv2
import numpy as np

from visagist.head.annotated import offsets
from visagist.head.fit import outline_points, turn_of
from visagist.head.light import encoded, linear
from visagist.head.mesh import normals
from visagist.head.morphable import EYES
from visagist.head.render import rasterise
from visagist.head.texture import Texture
from visagist.photo.face import Face, Pose, box_of_points
from visagist.recipe import Item
from visagist.training.data.backdrops import backdrop
from visagist.training.data.bust import BODY, EYE, EYEBALL, FACE, FRAME, HAIR, MOUTH, SKIN, Bust, Sheet, Surface, joined
from visagist.training.data.complexion import Chart, clothed, grain
from visagist.training.data.made_up import Drawing
from visagist.training.data.persons import Light, Moment, Person
from visagist.training.data.wardrobe import grown, long_hair, spectacles
from visagist.weights import store

NECK = np.array([0.0, -8.0, -1.0])  # about which head and shoulders turn against each other
FURTHEST = 55.0  # degrees that a neck turns


def portrait(rng: np.random.Generator, size: int = 128, *, person: Person | None = None) -> tuple[np.ndarray, Face, np.ndarray]:
    """One rendered person whose face fills most of a picture: pixels uint8 [size, size, 3], the face with points and pose, and what
    each pixel shows, uint8 [size, size], see `complexion.CLASSES`."""
    view = View.of(person or Person.drawn(rng), rng, size)
    pixels, kind = view.drawn()
    return pixels, view.face, kind


def items(
    count: int,
    seed: int = 0,
    *,
    size: int = 128,
    people: int | None = None,
    yaw: float = 90.0,
    pitch: float = 30.0,
    fill: tuple[float, float] = (0.42, 0.72),
    learnt: float = 0.0,
) -> list[Item]:
    """Pictures of rendered people, one each, with their points, poses and facts as in a data set.

    people      how many different persons there are; None: every picture shows another
    yaw, pitch  furthest turn and nod in degrees
    fill        longer side of the face box over the picture's side, from and to
    learnt      share of the people whose skin is of the bundled texture, which is learnt from photographs
    The same seed gives the same pictures, of which the first ones do not depend on `count`. targets["kind"] is the picture of
    classes.
    """
    made = []
    for index in range(count):
        one = view(index, seed, size=size, people=people, yaw=yaw, pitch=pitch, fill=fill, learnt=learnt)
        who = f"person{index if people is None else index % people:05}"
        facts = {**one.facts(), "set": "rendered"}
        targets = {"kind": Drawing(one.kinds)}
        made.append(Item(f"{who}_{index:06}.jpg", Drawing(one.pixels), (one.face,), targets=targets, facts=facts, person=who))
    return made


def view(
    index: int,
    seed: int = 0,
    *,
    size: int = 128,
    people: int | None = None,
    yaw: float = 90.0,
    pitch: float = 30.0,
    fill: tuple[float, float] = (0.42, 0.72),
    learnt: float = 0.0,
) -> View:
    """Picture number `index` of `items` with the same settings."""
    who = index if people is None else index % people
    person = _person(seed, who, learnt)
    return View.of(person, np.random.default_rng((seed, 6 << 20, index)), size, yaw=yaw, pitch=pitch, fill=fill)


@dataclass(frozen=True, eq=False)
class View:
    """A picture that is going to be drawn; its labels are known. scale, shift: from what the camera sees, in model units, to
    pixels."""

    person: Person
    moment: Moment
    size: tuple[int, int]
    scale: float
    shift: tuple[float, float]
    face: Face

    @classmethod
    def of(
        cls,
        person: Person,
        rng: np.random.Generator,
        size: int,
        *,
        yaw: float = 90.0,
        pitch: float = 30.0,
        fill: tuple[float, float] = (0.42, 0.72),
    ) -> View:
        """Somebody at some moment, the face box a part `fill` of a square picture, somewhere near its middle."""
        moment = Moment.drawn(rng, person, yaw=yaw, pitch=pitch)
        part = float(rng.uniform(*fill))
        centre = size * (0.5 + rng.uniform(-0.07, 0.07, 2))
        return cls.at(person, moment, size, part, (float(centre[0]), float(centre[1])))

    @classmethod
    def at(cls, person: Person, moment: Moment, size: int, fill: float, centre: tuple[float, float]) -> View:
        """This moment of somebody, the middle of the face box at `centre` and its longer side a part `fill` of the picture's."""
        bust = Bust.bundled()
        shape = bust.shape(person.identity, bust.model.expressed(moment.expression))
        marks = shape[outline_points(bust.narrow, shape, turn_of(moment.pose))]
        apart = float(np.linalg.norm(np.subtract(*(marks[eye].mean(0) for eye in EYES))))
        seen = _seen((marks + offsets(apart)).astype(np.float32), np.ones(68, np.float32), moment)
        x0, y0, x1, y1 = box_of_points(seen[:, :2])
        scale = size * fill / max(x1 - x0, y1 - y0)
        shift = np.array(centre) - scale * np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        face = Face.of_points(seen[:, :2] * scale + shift, pose=moment.pose)
        return cls(person, moment, (size, size), scale, (float(shift[0]), float(shift[1])), face)

    def facts(self) -> dict[str, float | str]:
        """Attributes and angles, as a data set lists them."""
        return {**self.person.facts(), **self.moment.facts, **self.moment.pose._asdict()}

    def pixels(self) -> np.ndarray:
        return self.drawn()[0]

    def kinds(self) -> np.ndarray:
        """The picture of classes, three times the same, as a photo has it."""
        return np.repeat(self.drawn()[1][..., None], 3, axis=2)

    def drawn(self, behind: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Pixels uint8 [H, W, 3] and classes uint8 [H, W]; behind: a picture to stand before, else one is made up."""
        rng = np.random.default_rng(self.moment.seed)
        bust, person, moment = Bust.bundled(), self.person, self.moment
        fine = 2 if max(self.size) <= 200 else 1
        height, width = (fine * side for side in self.size)
        neutral = bust.shape(person.identity, np.zeros(len(bust.model.expression)))
        shape = bust.shape(person.identity, bust.model.expressed(moment.expression))
        jaw = float(neutral[bust.model.landmarks[8], 1] - shape[bust.model.landmarks[8], 1])
        skin_normals = normals(shape, bust.model.triangles)
        dressed = shape + grown(person, bust)[:, None] * skin_normals.astype(np.float32)
        frames, lenses = spectacles(person, bust, neutral)
        sheets = [
            *bust.eyeballs(neutral, moment.gaze),
            *bust.mouth(neutral, max(jaw, 0.0)),
            *long_hair(person, bust, neutral),
            *frames,
        ]
        surface = joined(bust, dressed, [*sheets, bust.body(dressed, person.broad)])
        held = np.ones(len(surface.vertices), np.float32)
        held[: len(dressed)] = bust.held
        body = np.zeros(len(surface.vertices), bool)
        body[np.unique(surface.triangles[surface.part == BODY])] = True
        held[body] = 0
        seen = _seen(surface.vertices, held, moment)
        facing = normals(seen.astype(np.float64), surface.triangles)  # in the camera's axes
        shade, gloss = _lit(bust, surface, facing, moment)

        placed = seen * (self.scale * fine)
        placed[:, :2] += np.multiply(self.shift, fine)
        raster = rasterise(placed.astype(np.float64), surface.triangles, (height, width))
        where = np.nonzero(raster.covered)
        number = raster.triangle[where]
        corners, weights = surface.triangles[number], raster.weights[where]
        values = np.concatenate([surface.place, shade, gloss[:, None]], axis=1).astype(np.float32)
        mixed = np.einsum("pi,pic->pc", weights, values[corners])
        part = surface.part[number]
        albedo, kind = self._albedo(bust, mixed[:, :3], part, corners, weights)
        oily = np.choose(part, (0.05 + 0.16 * person.oily, 0.9, 0.25, 0.0, 0.10, 0.4)).astype(np.float32)
        gloss = np.where(part == EYE, mixed[:, 6] ** 4, mixed[:, 6])  # smaller, sharper lights in eyes
        oily = np.where(np.isin(kind, (4, 5)), 0.05, np.where(kind == 6, 0.01, oily))
        colour = albedo * mixed[:, 3:6] + (oily * gloss)[:, None]

        picture: np.ndarray = np.zeros((height, width, 4), np.float32)
        picture[where] = np.column_stack([_shown(colour * moment.exposure), np.ones(len(colour), np.float32)])
        classes = np.zeros((height, width), np.uint8)
        classes[where] = kind
        if lenses:
            self._glazed(picture, classes, lenses, raster.depth, fine)
        if fine > 1:
            picture = cv2.resize(picture, self.size[::-1], interpolation=cv2.INTER_AREA)
            classes = classes[::fine, ::fine]
        ground = backdrop(rng, self.size) if behind is None else behind
        whole = picture[..., :3] + (1 - picture[..., 3:]) * ground.astype(np.float32)
        return _taken(whole, rng), np.ascontiguousarray(classes)

    def _albedo(
        self, bust: Bust, place: np.ndarray, part: np.ndarray, corners: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour [P, 3] and class [P] of what is seen: place [P, 3] on its chart."""
        person = self.person
        detail = float(np.clip(round(self.scale * 2.0), 4, 12))
        albedo, kind = _chart(person, detail).at(place)
        if person.texture is not None:
            inner = np.flatnonzero((corners < FACE).all(1) & np.isin(kind, (1, 2, 3)))
            at, share = corners[inner], weights[inner]
            cover = np.einsum("pi,pi->p", share, bust.inwards[at])[:, None]
            skin = np.einsum("pi,pic->pc", share, _learnt(person)[at])
            eyes = np.abs(np.abs(place[inner, 0]) - EYEBALL[0]) < 2.2  # lashes and folds are painted: the texture has none
            eyes &= np.abs(place[inner, 1] - EYEBALL[1]) < 1.3
            drawn = np.clip(albedo[inner] / np.asarray(person.skin, np.float32), 0.15, 1) ** np.where(eyes, 0.8, 0.0)[:, None]
            albedo[inner] += cover * (skin * drawn - albedo[inner])
        ears = (weights * np.concatenate([bust.ear, np.zeros(1, np.float32)])[np.minimum(corners, len(bust.ear))]).sum(1)
        bare = (ears > 0.5) & np.isin(part, (SKIN,)) & (kind == 4)
        albedo[bare], kind[bare] = np.asarray(person.skin) * (1.08, 0.88, 0.86), 1
        low = np.flatnonzero((place[:, 1] < -10.5) & np.isin(part, (SKIN, BODY)) & (kind != 6))
        below, cloth = clothed(person, place[low])
        cover = np.clip(below * 5 + 0.5, 0, 1)[:, None]
        albedo[low] += cover * (cloth - albedo[low])
        kind[low[below > 0]] = 6
        for which, painted, told in (
            (EYE, self._eye, 7),
            (MOUTH, self._mouth, 8),
            (HAIR, self._strands, 4),
            (FRAME, self._frame, 9),
        ):
            of = part == which
            if of.any():
                albedo[of], kind[of] = painted(place[of]), told
        return albedo, kind

    def _eye(self, place: np.ndarray) -> np.ndarray:
        """White, iris with a dark rim, pupil; redder towards the corners and darker under the upper lid."""
        far = np.hypot(place[:, 0], place[:, 1])[:, None]
        person = self.person
        white = np.array([0.58, 0.53, 0.50]) - np.clip(far - 0.3, 0, 1) * np.array([0.12, 0.26, 0.26])
        angle = np.arctan2(place[:, 1], place[:, 0])[:, None]
        iris = np.asarray(person.iris) * (1 + 0.25 * np.sin(angle * 23 + person.seed % 7)) * (0.75 + 1.4 * np.clip(far, 0, 0.25))
        rim = _between(far, 0.20, 0.255)
        iris = iris * (1 - 0.75 * rim)
        eye = iris + (white - iris) * _between(far, 0.245, 0.285)
        eye = eye * _between(far, 0.075, 0.105) + 0.004
        shaded: np.ndarray = eye * (1 - 0.45 * np.clip(place[:, 1:2] * 2.2 + 0.05, 0, 1))
        return shaded

    def _mouth(self, place: np.ndarray) -> np.ndarray:
        """The dark of the mouth with a tongue at its bottom, and teeth with gaps."""
        x, y, kind = place.T
        tongue = np.clip((y - 0.55) * 3, 0, 1) * np.clip(1 - np.abs(2 * x - 1) * 1.5, 0, 1)
        dark = np.array([0.05, 0.012, 0.012]) + tongue[:, None] * np.array([0.22, 0.06, 0.06])
        gaps = 0.82 + 0.18 * np.clip(np.abs(np.sin(x * np.pi * 9)) * 3, 0, 1)
        white = np.array([0.68, 0.62, 0.52]) * (1 - 0.12 * self.person.age)
        side = (1 - 0.85 * np.clip((np.abs(2 * x - 1) - 0.4) / 0.6, 0, 1)) * gaps
        gum = np.array([0.35, 0.13, 0.13])
        teeth = white * side[:, None] * np.where(kind < 1.5, 1.0, 0.75)[:, None]
        teeth = np.where((y < 0.25)[:, None], gum * side[:, None], teeth)
        return np.where((kind < 0.5)[:, None], dark, teeth)

    def _strands(self, place: np.ndarray) -> np.ndarray:
        _, _, streaks = grain()
        wavy = place[:, 0] * 10 + 3 * self.person.curl * np.sin(place[:, 1] * 1.1)
        tone = streaks[(place[:, 1] * 5).astype(int) % len(streaks), wavy.astype(int) % len(streaks)]
        return np.asarray(self.person.hair) * np.clip(0.9 + 0.33 * tone, 0.3, 2.2)[:, None]

    def _frame(self, place: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng((self.person.seed, 3))
        dark = np.array([0.02, 0.018, 0.016]) if rng.random() < 0.65 else rng.uniform(0.02, 0.3) * rng.uniform(0.5, 1, 3)
        return np.broadcast_to(dark, (len(place), 3))

    def _glazed(self, picture: np.ndarray, classes: np.ndarray, lenses: Sequence[Sheet], depth: np.ndarray, fine: int) -> None:
        """Lay the lenses over the picture (in place): a faint reflection, or dark glass."""
        sheets = [side for lens in lenses for side in lens.sides()]
        points = np.concatenate([sheet.vertices.reshape(-1, 3) for sheet in sheets])
        starts = np.cumsum([0, *(sheet.vertices[..., 0].size for sheet in sheets)])
        triangles = np.concatenate([sheet.triangles() + start for sheet, start in zip(sheets, starts, strict=False)])
        seen = _seen(points.astype(np.float32), np.ones(len(points), np.float32), self.moment) * (self.scale * fine)
        seen[:, :2] += np.multiply(self.shift, fine)
        glass = rasterise(seen.astype(np.float64), triangles, depth.shape)
        over = glass.covered & (glass.depth < depth + 0.1 * self.scale * fine)
        rng = np.random.default_rng((self.person.seed, 4))
        dark = self.person.glasses == "dark"
        opaque = float(rng.uniform(0.8, 0.97)) if dark else float(rng.uniform(0.02, 0.12))
        tone = np.array([rng.uniform(5, 45)] * 3 if dark else [190, 205, 220], np.float32)
        y = np.linspace(1, 0, depth.shape[0], dtype=np.float32)[:, None, None]
        laid = np.concatenate(
            [tone + (60 * y if dark else 0 * y) + np.zeros((*depth.shape, 3), np.float32), np.ones((*depth.shape, 1), np.float32)],
            2,
        )
        picture[over] += opaque * (laid[over] - picture[over])
        if dark:
            classes[over] = 9


@lru_cache(maxsize=8)
def _person(seed: int, who: int, learnt: float) -> Person:
    person = Person.drawn(np.random.default_rng((seed, 5 << 20, who)))
    rng = np.random.default_rng((seed, 7 << 20, who))
    if rng.random() >= learnt:
        return person
    skin = _skin()
    coefficients = np.clip(rng.standard_normal(len(skin.basis)), -2, 2)
    rim = skin.colours(coefficients)[Bust.bundled().inwards < 0.5]
    red, green, blue = (float(v) for v in linear(rim.mean(0)))
    return replace(person, texture=coefficients, skin=(red, green, blue), moles=0, freckles=0.0)


@cache
def _skin() -> Texture:
    """The bundled texture. WeightsError when it is damaged."""
    tensors, _ = store.read(store.path("texture"))
    return Texture(tensors["skin.mean"].numpy().reshape(-1, 3), tensors["skin.basis"].numpy())


@lru_cache(maxsize=8)
def _learnt(person: Person) -> np.ndarray:
    """Albedo float32 [N, 3] of each vertex of the narrow face."""
    assert person.texture is not None
    return linear(_skin().colours(person.texture)).astype(np.float32)


@lru_cache(maxsize=8)
def _chart(person: Person, detail: float) -> Chart:
    """Kept for the person's next picture; `detail`: pixels a centimetre."""
    return Chart.of(person, Bust.bundled().model, detail)


def _seen(vertices: np.ndarray, held: np.ndarray, moment: Moment) -> np.ndarray:
    """Vertices [N, 3] before the camera, float32: x right, y down, z away, in model units, as they are seen from its distance.

    held [N]: how much each turns with the head, else with the shoulders.
    """
    pose = moment.pose
    yaw = pose.yaw + float(np.clip(moment.body[0] - pose.yaw, -FURTHEST, FURTHEST))
    head = turn_of(pose).astype(np.float32)
    body = turn_of(Pose(yaw, moment.body[1], 0.25 * pose.roll)).astype(np.float32)
    about = vertices - NECK.astype(np.float32)
    turned = about @ head.T
    if held.min() < 1:
        turned += (1 - held)[:, None] * (about @ (body - head).T)
    middle = head @ (np.array([0.0, 0.0, 5.0]) - NECK).astype(np.float32)
    turned -= middle
    turned[:, :2] *= moment.distance / np.maximum(moment.distance + turned[:, 2:], 5.0)
    return turned


def _lit(bust: Bust, surface: Surface, facing: np.ndarray, moment: Moment) -> tuple[np.ndarray, np.ndarray]:
    """Light that reaches each vertex [N, 3], and what it mirrors of the lamps [N]; facing [N, 3]: normals before the camera.

    Every direction brings the light of its part of the surroundings, as far as the mean head does not stand in its way.
    """
    ways = bust.directions @ turn_of(moment.pose).T.astype(np.float32)  # before the camera
    normal = facing.astype(np.float32)
    wrap = np.float32(0.12)  # light goes a little around in skin
    cosine = np.maximum(normal @ ways.T + wrap, 0) / (1 + wrap)
    cosine *= surface.seen
    radiance = np.stack([_radiance(light, ways) for light in moment.lights])  # [L, K]
    colours = np.array([light.colour for light in moment.lights], np.float32)
    shade = cosine @ (radiance.T @ colours) + 0.035
    key = max(moment.lights[1:] or moment.lights, key=lambda light: sum(light.colour))
    share = surface.seen @ (radiance[moment.lights.index(key)] / max(float(radiance[moment.lights.index(key)].sum()), 1e-6))
    half = np.array(key.way, np.float32) * (1, -1, -1) + np.array([0, 0, -1])
    half = half / max(float(np.linalg.norm(half)), 1e-6)
    gloss = np.maximum(normal @ half.astype(np.float32), 0) ** 18 * share * float(np.mean(key.colour))
    return shade.astype(np.float32), gloss.astype(np.float32)


def _radiance(light: Light, ways: np.ndarray) -> np.ndarray:
    """How bright the directions [K, 3] are in this light, so that a surface that faces it gets 1."""
    way = np.array(light.way, np.float32) * (1, -1, -1)
    cosine = ways @ (way / np.linalg.norm(way)).astype(np.float32)
    bright = np.exp(min(1.4 / light.broad**1.5, 22.0) * (cosine - 1))
    made: np.ndarray = bright / max(float((bright * np.maximum(cosine, 0)).sum()), 1e-6)
    return made


def _shown(colour: np.ndarray) -> np.ndarray:
    """sRGB 0..255, float32, of linear light with a soft shoulder."""
    c = np.maximum(colour, 0)
    return encoded(np.where(c < 0.6, c, 0.6 + 0.4 * (1 - np.exp(-(c - 0.6) / 0.4))))


def _taken(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a camera gives it: a little soft, with noise, now and then with another white balance."""
    if (blur := float(rng.uniform(0, 0.75))) > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if rng.random() < 0.3:
        picture = picture * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    noise = rng.standard_normal(picture.shape[:2], np.float32)[..., None] * np.float32(rng.uniform(0.5, 3.5))
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def _between(x: np.ndarray, low: float, high: float) -> np.ndarray:
    made: np.ndarray = np.clip((x - low) / (high - low), 0, 1)
    return made
