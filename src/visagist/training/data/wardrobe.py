"""What rendered people wear on their heads: hair that stands off the scalp, long hair, glasses. Shapes only; units of the model."""

from __future__ import annotations

import numpy as np

from visagist.head.morphable import EYES
from visagist.training.data.bust import FRAME, HAIR, Bust, Sheet, _step
from visagist.training.data.complexion import hair_edge, unrolled
from visagist.training.data.persons import Person


def grown(person: Person, bust: Bust) -> np.ndarray:
    """How far hair, beard and cloth lift each vertex off the skin along its normal, float32 [N]."""
    x, y = unrolled(bust.model.mean).T
    low, high = hair_edge(person, x)
    inside = _step(
        (y - low + 0.1) / {"cropped": 0.6, "cap": 0.6, "scarf": 0.6, "full": 3.2, "afro": 4.0}.get(person.style, 2.4)
    ) * _step((high - y) / 2.0)
    crown = 0.75 + 0.5 * _step((y - 7) / 5)
    rng = np.random.default_rng(person.seed)
    waves = np.sin(bust.model.mean @ rng.normal(0, 0.35, (3, 4)) + rng.uniform(0, 6, 4)).mean(1)
    ears = 0 * bust.ear if person.style == "scarf" else bust.beside_ear
    made = person.volume * inside * crown * (1 + 0.35 * waves) * (1 - ears)
    if person.beard in ("goatee", "beard"):
        chin = _step((-3.6 - y) / 2.5) * _step((y + 10.5) / 1.5)
        side = 1 - _step((np.abs(x) - (3.0 if person.beard == "goatee" else 10.5)) / 1.5)
        made = made + 0.75 * person.beard_dense * chin * side * (bust.model.mean[:, 2] > 1)
    cloth = _step((-12.4 - y) / 1.0) * 0.25
    lifted: np.ndarray = (made + cloth).astype(np.float32)
    return lifted


def long_hair(person: Person, bust: Bust, shape: np.ndarray) -> list[Sheet]:
    """A curtain of hair from above the ears down, around the sides and the back of this face [N, 3]."""
    if person.style != "long":
        return []
    rng = np.random.default_rng((person.seed, 1))
    top, bottom = 9.0, 6.0 - person.length
    level = (np.abs(bust.model.mean[:, 1] - 5) < 2) & (bust.held > 0.99)
    wide = float(np.abs(shape[level, 0]).max()) + 0.55 * person.volume
    back = float(-shape[level, 2].min()) + 0.75 * person.volume
    h, t = np.meshgrid(np.linspace(0, 1, 22), np.linspace(0, 1, 49), indexing="ij")
    y = top + (bottom - top) * h
    fall = _step((4 - y) / 9)  # 0 on the head, 1 where hair hangs free
    open_at = np.deg2rad(person.part + 16 * fall * rng.uniform(-0.5, 1))
    angle = open_at + t * (2 * np.pi - 2 * open_at)
    strand = rng.normal(0, 1, 49)
    strand = np.convolve(np.concatenate([strand[-2:], strand, strand[:2]]), np.ones(5) / 5, "valid") * 0.55
    wave = person.curl * 0.5 * np.sin(y * rng.uniform(0.6, 1.4) + 3 * strand)
    taper = 1 - 0.30 * _step((h - 0.75) / 0.25) * rng.uniform(0.2, 1)
    round_in = np.sqrt(np.clip(1 - np.square(np.clip((y - 2.0) / 13.0, 0, 1)), 0.05, 1))  # the skull's curve above
    across = (wide * round_in + fall * (strand + wave + rng.uniform(-1.0, 1.6))) * taper
    deep = (back * round_in - fall * 2.2 + 0.4 * strand * fall) * taper
    x = np.sin(angle) * across
    z = np.cos(angle) * np.where(np.cos(angle) > 0, across * 0.72, deep) - 0.3
    ragged = np.where(h == 1, 1.2 * strand, 0)
    # seen from outside, columns must run to the right: from the left edge round the back is the other way
    vertices = np.stack([x, y + ragged, z], axis=2)[:, ::-1]
    place = np.stack([angle * 10, y, np.zeros_like(y)], axis=2)[:, ::-1]
    return [Sheet(HAIR, vertices, place, both=True)]


def spectacles(person: Person, bust: Bust, shape: np.ndarray) -> tuple[list[Sheet], list[Sheet]]:
    """Frames and lenses on this neutral face [N, 3]; nothing without glasses. place: third 0 frame, 1 lens."""
    if not person.glasses:
        return [], []
    rng = np.random.default_rng((person.seed, 2))
    marks = bust.model.landmarks
    eyes = [shape[marks[eye]].mean(0) for eye in EYES]
    apart = float(eyes[1][0] - eyes[0][0]) / 2
    bridge = float(shape[marks[28], 2])
    wide = apart * float(rng.uniform(0.66, 0.80)) * (1.08 if person.glasses == "dark" else 1)
    high = wide * float(rng.uniform(0.80, 1.0) if person.glasses == "round" else rng.uniform(0.62, 0.85))
    power = 2.2 if person.glasses == "round" else float(rng.uniform(2.8, 4.5))
    thick = float(rng.uniform(0.10, 0.40))
    drop = float(rng.uniform(0.1, 0.5))
    t = np.linspace(0, 2 * np.pi, 33)[:-1]
    c, s = np.cos(t), np.sin(t)
    ring = np.stack([np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)], axis=1)
    frames, lenses = [], []
    for side, eye in zip((-1, 1), eyes, strict=True):
        middle = np.array([side * (apart + 0.12), eye[1] - drop, 0])

        def at(grow: float, forward: float, middle: np.ndarray = middle) -> np.ndarray:
            xy = ring * (wide + grow, high + grow) + middle[:2]
            bent = bridge - 0.35 - 0.030 * xy[:, 0] ** 2 - 0.05 * (middle[1] - xy[:, 1])  # lenses follow the face's curve
            return np.column_stack([xy, bent + forward])

        rows = np.stack([at(0.0, -0.15), at(0.0, 0.05), at(thick, 0.05), at(thick, -0.15)])
        frames.append(_plain(rows, closed=True))
        lens = np.stack([at(-wide, 0.12)[:, :], at(0.0, 0.0)])
        lens[0, :, :2] = middle[:2]
        lens[0, :, 2] = bridge - 0.35 - 0.030 * middle[0] ** 2
        lenses.append(
            Sheet(
                FRAME, lens, np.concatenate([lens[..., :2] - middle[:2], np.ones((*lens.shape[:2], 1))], 2), both=True, closed=True
            )
        )
        hinge = np.array([side * (apart + wide + thick), eye[1] - drop + 0.45 * high, at(thick, -0.1)[:, 2].min()])
        ear = np.array([side * (np.abs(shape[bust.ear > 0, 0]).min() + 0.35), eye[1] + 0.1, 0.3])
        line = np.linspace(hinge, ear, 5)
        half = np.array([0, 0.09 + thick / 3, 0])
        arm = np.stack([line + half, line - half])
        frames.append(_plain(arm))
    x = np.linspace(-1, 1, 7) * (apart + 0.12 - wide)
    nose = np.column_stack([x, eyes[0][1] - drop + 0.35 + 0.25 * np.cos(x * 1.5), bridge - 0.25 - 0.03 * x**2])
    half = np.array([0, thick / 2 + 0.06, 0])
    frames.append(_plain(np.stack([nose + half, nose - half])))
    return frames, lenses


def _plain(vertices: np.ndarray, *, closed: bool = False) -> Sheet:
    return Sheet(FRAME, vertices, np.zeros_like(vertices), both=True, closed=closed)
