"""Who a rendered person is, and what one picture shows of it: everything random about rendered people, drawn here and nowhere else.

    person = Person.drawn(np.random.default_rng(7))          shape, skin, hair, beard, glasses, clothes: the same in every picture
    moment = Moment.drawn(np.random.default_rng(8), person)  expression, pose, light, camera

No photograph was looked at for any of it: colours are those of tables, ranges were chosen by eye.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from visagist.head.light import linear
from visagist.photo.face import Pose

Colour = tuple[float, float, float]  # linear light, 0..1

# sRGB 0..255, from the palest to the darkest; then hair from black to white, irises, lips beside the skin's own.
SKINS = np.array(
    [
        [252, 226, 210],
        [243, 208, 184],
        [231, 188, 158],
        [214, 165, 130],
        [189, 136, 100],
        [154, 104, 73],
        [116, 75, 52],
        [82, 52, 38],
    ]
)
HAIRS = np.array([[20, 16, 15], [42, 28, 22], [74, 48, 32], [112, 76, 46], [160, 118, 70], [205, 170, 115], [140, 66, 34]])
GREYS = np.array([[118, 116, 114], [190, 188, 184], [228, 226, 222]])
IRISES = np.array([[58, 34, 20], [84, 52, 28], [104, 78, 44], [96, 112, 78], [92, 128, 156], [128, 144, 152]])
PAINTS = np.array([[178, 44, 62], [196, 88, 96], [150, 40, 70], [206, 112, 100], [120, 30, 44]])
CLOTHES = np.array([[28, 30, 36], [236, 236, 232], [40, 52, 84], [120, 122, 126], [120, 32, 36], [70, 92, 70], [180, 160, 130]])

HAIR_STYLES = ("bald", "fringe", "cropped", "short", "full", "long", "afro", "cap", "scarf")
BEARDS = ("none", "stubble", "moustache", "goatee", "beard")
GARMENTS = ("tee", "shirt", "suit", "pullover")


@dataclass(frozen=True, eq=False)
class Person:
    """Lengths in centimetres of the mean head, amounts in 0..1."""

    identity: np.ndarray
    skin: Colour
    lips: Colour
    iris: Colour
    hair: Colour
    brows: Colour
    garment: tuple[Colour, Colour]
    female: bool = False
    age: float = 0.3
    ruddy: float = 0.5
    oily: float = 0.3
    freckles: float = 0.0
    moles: int = 0
    paint: float = 0.0  # make-up about the eyes
    brow_thick: float = 0.6
    brow_dense: float = 0.8
    style: str = "short"
    hairline: float = 10.8  # height of the forehead's end
    recess: float = 0.0  # how much further the hair begins at the temples
    volume: float = 1.0  # how far hair stands off the head
    length: float = 12.0  # how far below the crown's rim long hair falls
    curl: float = 0.3
    part: float = 40.0  # where long hair opens before the face, in degrees from its middle
    beard: str = "none"
    beard_dense: float = 0.0
    glasses: str = ""  # "", "round", "square", "dark"
    wear: str = "tee"
    pattern: str = "plain"
    broad: float = 1.0
    seed: int = 0  # of strokes, freckles and noise
    texture: np.ndarray | None = None  # coefficients of the bundled texture, whose skin this is then; None: painted skin

    @classmethod
    def drawn(cls, rng: np.random.Generator, identities: int = 32) -> Person:
        """Anybody: women and men alike, every skin, 18 to 85 years."""
        female = bool(rng.random() < 0.5)
        age = float(rng.beta(1.2, 1.6))
        tone = float(rng.beta(1.0, 1.15)) * (len(SKINS) - 1.001)
        skin = linear(_between(SKINS, tone)) * np.exp(rng.normal(0, 0.05, 3) * (0.6, 0.6, 1.0))
        hair = linear(_between(HAIRS[:6] if rng.random() < 0.93 else HAIRS[[6, 6]], rng.uniform(0, 1) ** (1.2 + 0.5 * tone) * 5))
        brows = np.minimum(hair * rng.uniform(0.5, 1.0), skin * rng.uniform(0.25, 0.5))  # always darker than the skin
        if rng.random() < (age - 0.35) * 1.4:
            hair = linear(_between(GREYS, rng.uniform(0, 1.99)))
            brows = _mix(brows, hair, float(rng.uniform(0.1, 0.8)))
        elif female and rng.random() < 0.15:  # dyed
            hair = linear(_between(HAIRS[:6], rng.uniform(0, 4.9)))
        lips = skin * _mix(np.array([0.92, 0.62, 0.62]), np.array([0.75, 0.55, 0.58]), tone / 7) * np.exp(rng.normal(0, 0.06))
        paint = float(rng.uniform(0.2, 1)) if female and rng.random() < 0.6 else 0.0
        if paint:
            lips = _mix(lips, linear(PAINTS[rng.integers(len(PAINTS))]), paint * rng.uniform(0.1, 0.8))
        if female:
            style = _choice(rng, {"long": 0.56, "full": 0.15, "short": 0.13, "afro": 0.05, "cap": 0.04, "scarf": 0.07})
        else:
            older = {"bald": 0.10 + 0.12 * age, "fringe": 0.20 * age}
            style = _choice(rng, {**older, "cropped": 0.25, "short": 0.33, "full": 0.12, "long": 0.05, "afro": 0.04, "cap": 0.07})
        beard = "none" if female else _choice(rng, {"none": 0.5, "stubble": 0.2, "moustache": 0.06, "goatee": 0.09, "beard": 0.15})
        volume = {
            "bald": 0.0,
            "fringe": 0.35,
            "cropped": 0.2,
            "short": 0.7,
            "full": 1.6,
            "long": 0.9,
            "afro": 3.4,
            "cap": 0.7,
            "scarf": 0.7,
        }
        cloth = [linear(CLOTHES[rng.integers(len(CLOTHES))] if rng.random() < 0.55 else rng.uniform(15, 235, 3)) for _ in range(2)]
        return cls(
            identity=np.clip(rng.standard_normal(identities) * rng.uniform(0.8, 1.15), -2.8, 2.8).astype(np.float32),
            skin=_colour(skin),
            lips=_colour(lips),
            iris=_colour(linear(IRISES[min(int(rng.beta(1, 1 + 0.6 * tone) * 6), 5)]) * np.exp(rng.normal(0, 0.15))),
            hair=_colour(hair * np.exp(rng.normal(0, 0.1))),
            brows=_colour(brows),
            garment=(_colour(cloth[0]), _colour(cloth[1])),
            female=female,
            age=age,
            ruddy=float(rng.uniform(0.2, 1.0)),
            oily=float(rng.uniform(0.1, 0.9)),
            freckles=float(rng.uniform(0.2, 1)) if tone < 3.5 and rng.random() < 0.22 else 0.0,
            moles=int(rng.poisson(1.2)),
            paint=paint,
            brow_thick=float(rng.uniform(0.30, 0.6) if female else rng.uniform(0.45, 0.95)),
            brow_dense=float(rng.uniform(0.45, 1.0)),
            style=style,
            hairline=_hairline(rng, female, age),
            recess=0.0 if female else float(np.clip(rng.normal(0.5, 0.8) * (0.4 + age), 0, 2.2)),
            volume=volume[style] * float(rng.uniform(0.7, 1.35)),
            length=float(rng.uniform(7, 26)),
            curl=float(rng.uniform(0, 1)),
            part=float(rng.uniform(46, 78)),
            beard=beard,
            beard_dense=float(rng.uniform(0.25, 0.6) if beard == "stubble" else rng.uniform(0.7, 1.0)),
            glasses=_choice(rng, {"": 0.74, "round": 0.07, "square": 0.13, "dark": 0.06}),
            wear=_choice(rng, {"tee": 0.35, "shirt": 0.2, "suit": 0.22, "pullover": 0.23}),
            pattern=_choice(rng, {"plain": 0.65, "stripes": 0.2, "checks": 0.15}),
            broad=float(rng.uniform(0.6, 1.0) if female else rng.uniform(0.9, 1.25)),
            seed=int(rng.integers(1 << 30)),
        )

    def facts(self) -> dict[str, float | str]:
        """Attributes as a data set would list them."""
        return {
            "male": float(not self.female),
            "young": float(self.age < 0.35),
            "eyeglasses": float(self.glasses != ""),
            "facial_hair": float(self.beard not in ("none", "stubble")),
            "bald": float(self.style in ("bald", "fringe")),
        }


@dataclass(frozen=True, eq=False)
class Light:
    """A lamp or a sky: where it stands as the viewer sees it (unit vector, x right, y up, z towards the viewer), how broad it is
    (0 a point, 1 half the sky), its colour times its strength."""

    way: tuple[float, float, float]
    broad: float
    colour: Colour


@dataclass(frozen=True, eq=False)
class Moment:
    """One picture of somebody."""

    expression: dict[str, float]  # weights of named expressions
    gaze: tuple[float, float]  # degrees, against the head
    pose: Pose
    body: tuple[float, float]  # yaw and pitch of the shoulders
    lights: tuple[Light, ...]
    distance: float  # of the camera, in centimetres
    exposure: float = 1.0
    seed: int = 0  # of backdrop and camera
    facts: dict[str, float] = field(default_factory=dict)

    @classmethod
    def drawn(cls, rng: np.random.Generator, person: Person, *, yaw: float = 90.0, pitch: float = 30.0) -> Moment:
        """Half of the heads near the front, others turned evenly up to `yaw` degrees; nods of up to `pitch`, some heads tipped."""
        turned = rng.uniform(-yaw, yaw) if rng.random() < 0.5 else np.clip(rng.normal(0, 0.25 * yaw), -yaw, yaw)
        nod = float(np.clip(rng.normal(0, 0.36 * pitch), -pitch, pitch))
        tip = float(rng.normal(0, 7) if rng.random() < 0.8 else rng.uniform(-40, 40))
        pose = Pose(float(turned), nod, tip)
        shown = _expression(rng)
        follow = rng.uniform(0.15, 1.0)
        gaze = (float(np.clip(-turned * rng.uniform(0, 0.5) + rng.normal(0, 8), -28, 28)), float(rng.normal(0, 6)))
        if rng.random() < 0.4:
            gaze = (float(rng.normal(0, 4)), float(rng.normal(0, 3)))
        return cls(
            expression=shown,
            gaze=gaze,
            pose=pose,
            body=(float(turned * follow + rng.normal(0, 10)), float(nod * 0.2 + rng.normal(0, 3))),
            lights=_lights(rng),
            distance=float(np.exp(rng.uniform(np.log(45), np.log(300)))),
            exposure=float(np.exp(rng.normal(0.05, 0.22))),
            seed=int(rng.integers(1 << 30)),
            facts={"mouth_open": float(shown.get("jawOpen", 0) > 0.12), "smiling": float(shown.get("mouthSmile", 0) > 0.4)},
        )


def _expression(rng: np.random.Generator) -> dict[str, float]:
    """A face at rest, a smile, somebody talking, something else, and now and then a blink."""
    shown: dict[str, float] = {}
    kind = rng.random()
    if kind < 0.38:
        strong = float(rng.uniform(0.2, 1))
        lop = rng.normal(0, 0.06)
        shown |= {"mouthSmile_L": strong + lop, "mouthSmile_R": strong - lop, "cheekSquint": 0.5 * strong}
        if rng.random() < 0.65:
            teeth = float(rng.uniform(0.1, 0.5)) * strong
            shown |= {"mouthUpperUp": teeth, "mouthLowerDown": teeth * rng.uniform(0.3, 1), "jawOpen": teeth * rng.uniform(0, 0.5)}
    elif kind < 0.60:
        shown |= {
            "jawOpen": float(rng.beta(1.2, 2.5)),
            "mouthFunnel": float(rng.beta(0.7, 3)),
            "mouthStretch": float(rng.beta(0.6, 4)),
        }
        shown |= {"mouthLowerDown": float(rng.beta(0.8, 3))}
    elif kind < 0.78:
        names = (
            "mouthFrown",
            "mouthPucker",
            "mouthPress",
            "noseSneer",
            "mouthLeft",
            "mouthRight",
            "cheekPuff",
            "mouthDimple",
            "mouthRollLower",
        )
        for name in rng.choice(names, int(rng.integers(1, 3)), replace=False):
            shown[str(name)] = float(rng.uniform(0.2, 0.9))
        if rng.random() < 0.15:
            shown["jawOpen"] = float(rng.uniform(0.4, 1.0))
    brows = rng.random()
    if brows < 0.2:
        shown["browDown"] = float(rng.uniform(0.2, 1))
    elif brows < 0.45:
        shown |= {"browInnerUp": float(rng.uniform(0.1, 0.8)), "browOuterUp": float(rng.uniform(0, 0.7))}
    lid = rng.random()
    if lid < 0.07:
        shown["eyeBlink"] = float(rng.uniform(0.7, 1.0))
    elif lid < 0.45:
        shown["eyeBlink"] = float(rng.uniform(0.05, 0.35))
    elif lid < 0.6:
        shown["eyeSquint"] = float(rng.uniform(0.2, 0.8))
    elif lid < 0.68:
        shown["eyeWide"] = float(rng.uniform(0.2, 0.8))
    return shown


def _lights(rng: np.random.Generator) -> tuple[Light, ...]:
    """A sky, a key light from somewhere above and before the face, often a fill, now and then one from behind."""
    warm = rng.normal(0, 0.10)
    tint = np.array([np.exp(warm), 1.0, np.exp(-warm)])
    cool = np.array([np.exp(-0.7 * warm), 1.0, np.exp(0.7 * warm)])
    key = float(rng.beta(2, 2.2))  # share of the key light
    made = [Light((0.0, 1.0, 0.25), 1.0, _colour(cool * (0.95 - 0.62 * key)))]
    azimuth = np.deg2rad(np.clip(rng.normal(0, 42), -110, 110))
    height = np.deg2rad(np.clip(rng.normal(32, 20), -20, 80))
    way = (float(np.sin(azimuth) * np.cos(height)), float(np.sin(height)), float(np.cos(azimuth) * np.cos(height)))
    made.append(Light(way, float(rng.uniform(0.12, 0.6)), _colour(tint * key * 0.95)))
    if rng.random() < 0.5:
        made.append(Light((-way[0], 0.1, abs(way[2])), 0.7, _colour(cool * rng.uniform(0.05, 0.3))))
    if rng.random() < 0.2:
        side = float(rng.choice([-1.0, 1.0]))
        made.append(Light((0.8 * side, 0.3, -0.55), 0.3, _colour(tint * rng.uniform(0.2, 0.7))))
    return tuple(made)


def _hairline(rng: np.random.Generator, female: bool, age: float) -> float:
    """Height of the forehead's end: lower where hair is combed over the forehead."""
    if rng.random() < (0.3 if female else 0.12):
        return float(rng.uniform(7.2, 9.4))
    return float(rng.uniform(10.0, 11.4) + (0 if female else rng.uniform(0, 0.9) * (0.3 + age)))


def _between(table: np.ndarray, place: float) -> np.ndarray:
    low = min(int(place), len(table) - 2)
    return _mix(table[low].astype(np.float64), table[low + 1].astype(np.float64), place - low)


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a + (b - a) * share


def _choice(rng: np.random.Generator, weights: dict[str, float]) -> str:
    shares = np.array(list(weights.values()))
    return str(list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))])


def _colour(values: np.ndarray) -> Colour:
    r, g, b = (float(v) for v in np.clip(values, 0.0, None))
    return r, g, b
