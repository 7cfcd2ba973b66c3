"""Made-up people: what a drawn head looks like, and where its 68 points are.

Head coordinates: x to the right of the picture, y down, z towards the viewer; the unit is half the width of the face at the height
of the eyes, which lie at y = 0. A head is turned in 3D and projected orthographically, so its points stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from visagist.photo.face import Face, Pose

Colour = tuple[float, float, float]  # RGB, 0..255

SKIN = np.array([[255, 226, 204], [243, 201, 166], [219, 166, 124], [172, 112, 75], [120, 74, 48], [82, 52, 38]], float)
HAIR = np.array(
    [[28, 22, 20], [62, 40, 26], [112, 72, 40], [214, 178, 110], [168, 84, 40], [150, 148, 146], [224, 222, 216]], float
)
IRIS = np.array([[74, 44, 24], [104, 68, 34], [92, 110, 70], [80, 120, 160], [120, 140, 150]], float)
LIPS = np.array([[196, 96, 96], [178, 70, 84], [206, 116, 104], [190, 30, 58], [150, 40, 70]], float)


@dataclass(frozen=True)
class Look:
    """One made-up person at one moment; lengths in head units, angles in degrees, shares in 0..1."""

    # who it is
    skin: Colour = (243, 201, 166)
    hair: Colour = (62, 40, 26)
    iris: Colour = (104, 68, 34)
    lips: Colour = (196, 96, 96)
    clothes: Colour = (60, 80, 120)
    chin: float = 1.78  # y of the chin
    jaw: float = 0.85  # 0.7 square ... 1.1 pointed
    eye_apart: float = 0.43
    eye_width: float = 0.19
    brow: float = 0.34  # height above the eyes
    brow_thick: float = 0.07
    nose: float = 0.68  # y of its tip
    nose_width: float = 0.22
    mouth_width: float = 0.40
    lip_thick: float = 0.11
    hair_long: float = 0.0  # 0 short ... 1 over the shoulders
    hair_line: float = 0.75  # height of the forehead
    bald: bool = False
    beard: float = 0.0
    glasses: str = ""  # "", "round", "square" or "dark"
    hat: bool = False
    freckles: bool = False
    # the moment
    eye_open: float = 0.09
    gaze: float = 0.0
    mouth_open: float = 0.0  # gap between the lips
    smile: float = 0.0  # -1 ... 1
    brow_lift: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    light: float = 0.0  # degrees: where the light comes from, 0 above
    contrast: float = 0.2

    @classmethod
    def person(cls, rng: np.random.Generator) -> Look:
        """Somebody, looking straight ahead."""
        tone = rng.uniform(0, len(SKIN) - 1)
        skin = _mix(SKIN[int(tone)], SKIN[int(tone) + 1], tone % 1) + rng.normal(0, 4, 3)
        hair = _mix(HAIR[rng.integers(len(HAIR))], HAIR[rng.integers(len(HAIR))], rng.uniform(0, 0.3))
        female = rng.random() < 0.5
        return cls(
            skin=_colour(skin),
            hair=_colour(hair + rng.normal(0, 6, 3)),
            iris=_colour(IRIS[rng.integers(len(IRIS))] + rng.normal(0, 10, 3)),
            lips=_colour(_mix(skin * 0.85, LIPS[rng.integers(len(LIPS))], rng.uniform(0.35, 0.95))),
            clothes=_colour(rng.uniform(20, 235, 3)),
            chin=rng.uniform(1.62, 1.95),
            jaw=rng.uniform(0.72, 1.1),
            eye_apart=rng.uniform(0.39, 0.47),
            eye_width=rng.uniform(0.165, 0.215),
            brow=rng.uniform(0.28, 0.40),
            brow_thick=rng.uniform(0.035, 0.10),
            nose=rng.uniform(0.60, 0.78),
            nose_width=rng.uniform(0.17, 0.29),
            mouth_width=rng.uniform(0.33, 0.47),
            lip_thick=rng.uniform(0.06, 0.15),
            hair_long=float(rng.uniform(0.3, 1)) if female else float(rng.uniform(0, 0.15)),
            hair_line=rng.uniform(0.55, 0.95),
            bald=not female and rng.random() < 0.2,
            beard=float(rng.uniform(0.3, 1)) if not female and rng.random() < 0.35 else 0.0,
            glasses=str(rng.choice(["", "", "", "", "round", "square", "dark"])),
            hat=bool(rng.random() < 0.12),
            freckles=bool(rng.random() < 0.15),
        )

    def at_moment(self, rng: np.random.Generator, turn: float = 25.0) -> Look:
        """The same person with another expression, pose (yaw within `turn` degrees) and light."""
        talking = rng.random() < 0.4
        return replace(
            self,
            eye_open=float(rng.uniform(0.05, 0.12)) if rng.random() < 0.93 else 0.008,
            gaze=float(rng.uniform(-0.6, 0.6)),
            mouth_open=float(rng.uniform(0.03, 0.30)) if talking else float(rng.uniform(0, 0.015)),
            smile=float(rng.uniform(-0.4, 1)),
            brow_lift=float(rng.uniform(-0.04, 0.08)),
            yaw=float(rng.uniform(-turn, turn)),
            pitch=float(rng.uniform(-turn, turn) * 0.5),
            roll=float(rng.normal(0, turn * 0.4)),
            light=float(rng.uniform(-110, 110)),
            contrast=float(rng.uniform(0.05, 0.45)),
        )

    def facts(self) -> dict[str, float | str]:
        """Attributes as a data set would list them."""
        return {
            "eyeglasses": float(self.glasses != ""),
            "facial_hair": float(self.beard > 0),
            "bald": float(self.bald),
            "mouth_open": float(self.mouth_open > 0.03),
            "smiling": float(self.smile > 0.45),
            **{name: getattr(self, name) for name in ("yaw", "pitch", "roll")},
        }


@dataclass(frozen=True, eq=False)
class Head:
    """A look at a place in a picture. matrix float [2, 3]: projected head coordinates -> picture."""

    look: Look
    matrix: np.ndarray

    @classmethod
    def at(cls, look: Look, centre: tuple[float, float], scale: float) -> Head:
        """The middle of the face (between eyes and mouth) at `centre`, half a face width `scale` pixels long."""
        c, s = np.cos(np.deg2rad(look.roll)) * scale, np.sin(np.deg2rad(look.roll)) * scale
        linear = np.array([[c, -s], [s, c]])
        return cls(look, np.hstack([linear, (np.array(centre) - linear @ (0.0, 0.6))[:, None]]))

    @property
    def scale(self) -> float:
        """Picture pixels per head unit (geometric mean)."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points [N, 3] of the head in the picture, float [N, 2]."""
        yaw, pitch = np.deg2rad(self.look.yaw), np.deg2rad(self.look.pitch)
        x, y, z = np.asarray(points, float).T - np.array([[0.0], [0.6], [-0.3]])
        x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
        y = y * np.cos(pitch) - z * np.sin(pitch)
        placed: np.ndarray = np.stack([x, y + 0.6], 1) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return placed

    @property
    def face(self) -> Face:
        """The face with its 68 exact points and pose."""
        look = self.look
        return Face.of_points(self.place(points68(look)), pose=Pose(look.yaw, look.pitch, look.roll))


def points68(look: Look) -> np.ndarray:
    """The 68 points in head coordinates, float [68, 3], in iBUG order."""
    jaw = contour(look, np.linspace(-1, 1, 17))
    t = np.linspace(0, 1, 5)
    brow_y = -look.brow - look.brow_lift - 0.10 * np.sin(np.pi * (0.15 + 0.75 * t)) + 0.04
    right_brow = np.stack([-0.84 + t * 0.64, brow_y], 1)
    left_brow = np.stack([0.84 - t[::-1] * 0.64, brow_y[::-1]], 1)
    bridge = np.stack([np.zeros(4), np.linspace(0.0, look.nose, 4)], 1)
    s = np.linspace(-1, 1, 5)
    base = np.stack([s * look.nose_width, look.nose + 0.15 - 0.05 * np.abs(s)], 1)
    a, w, o = look.eye_apart, look.eye_width, look.eye_open
    eye = np.array([[-w, 0.01], [-w * 0.4, -o], [w * 0.35, -o], [w, 0.015], [w * 0.35, o * 0.7], [-w * 0.4, o * 0.75]])
    right_eye = eye - np.array([a, 0])
    left_eye = (eye * (-1, 1) + np.array([a, 0]))[[3, 2, 1, 0, 5, 4]]

    m, k, gap = look.mouth_width * (1 + 0.12 * max(look.smile, 0)), look.lip_thick, look.mouth_open
    y = mouth_y(look)
    corner = y + gap * 0.35 - 0.09 * look.smile
    upper = y - k * 0.75
    lower = y + gap + k
    right = [[-m, corner], [-m * 0.62, _between(corner, upper, 0.66)], [-m * 0.22, upper - k * 0.12]]
    under = [[-m * 0.68, _between(corner, lower, 0.60)], [-m * 0.33, _between(corner, lower, 0.92)], [0, lower]]
    outer = [*right, [0, upper + k * 0.06], *_other(right[::-1]), *_other(under[:2]), under[2], *under[1::-1]]
    thin = 0.004  # the lips of a shut mouth all but touch
    inside = [[-m * 0.80, corner], [-m * 0.35, _between(corner, y, 0.85)], [0, y]]
    beneath = [[-m * 0.35, _between(corner, y + gap, 0.9) + thin], [0, y + gap + thin]]
    inner = [*inside, *_other(inside[1::-1]), *_other(beneath[:1]), beneath[1], beneath[0]]
    flat = np.concatenate([right_brow, left_brow, bridge, base, right_eye, left_eye, np.array(outer), np.array(inner)])
    depth = np.zeros(len(flat))
    depth[10:14] = (0.02, 0.12, 0.24, 0.36)  # the nose stands out
    depth[14:19] = (0.08, 0.16, 0.20, 0.16, 0.08)
    depth[19:31] = -0.06  # the eyes lie deep
    depth[31:] = 0.06
    depth[[31, 37, 43, 47]] = 0.0  # corners of the mouth
    return np.concatenate([jaw, np.column_stack([flat, surface(*flat.T) + depth])])


def mouth_y(look: Look) -> float:
    """Where the lips meet."""
    return look.nose + 0.15 + 0.30 * (look.chin - look.nose - 0.15)


def contour(look: Look, u: np.ndarray) -> np.ndarray:
    """The lower outline of the face, [N, 3], from the right ear (u = -1) over the chin (0) to the left ear (1)."""
    phi = np.asarray(u) * np.pi / 2
    x = np.sign(phi) * np.abs(np.sin(phi)) ** look.jaw
    drop = look.chin + 0.05 + 0.6 * look.mouth_open
    y = -0.05 + drop * np.abs(np.cos(phi)) ** 0.9
    return np.column_stack([x, y, surface(x, y)])


def surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth of the face, without nose, lips and eyes."""
    depth: np.ndarray = 0.35 - 0.75 * np.minimum(np.abs(x), 1.1) ** 2 - 0.08 * (np.asarray(y) - 0.4) ** 2
    return depth


def _other(points: list[list[float]]) -> list[list[float]]:
    """The same points on the left side."""
    return [[-x, y] for x, y in points]


def _between(a: float, b: float, share: float) -> float:
    return a + (b - a) * share


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a + (b - a) * share


def _colour(rgb: np.ndarray) -> Colour:
    r, g, b = (float(v) for v in np.clip(rgb, 0, 255))
    return r, g, b
