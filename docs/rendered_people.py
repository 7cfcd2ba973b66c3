"""Draw docs/pictures/people.jpg and people_turned.jpg: rendered people, none of whom exists.

python docs/rendered_people.py
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from visagist.photo.draw import faces_on
from visagist.photo.face import Pose
from visagist.photo.photo import Photo, Step
from visagist.training.data import rendered
from visagist.training.data.complexion import CLASSES
from visagist.training.data.persons import Light

SIDE, SEED = 160, 2026
PALETTE = np.array(
    [[20, 20, 24], [224, 172, 140], [110, 70, 40], [200, 60, 80], [70, 50, 120], [130, 90, 150], [60, 110, 160], [240, 240, 240],
     [130, 20, 30], [250, 210, 60]], np.uint8,
)  # fmt: skip


def row(pictures: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in pictures], axis=1)


def save(rows: list[list[np.ndarray]], out: str) -> None:
    pixels = np.concatenate([row(pictures) for pictures in rows])
    Photo.of(pixels).edited(pixels, Step("people", "morphable-head", settings={"seed": SEED})).save(out, overwrite=True)


def main() -> None:
    seven = [rendered.view(index, SEED, size=SIDE, yaw=60) for index in range(21)]
    learnt = [rendered.view(index, SEED, size=SIDE, yaw=40, learnt=1.0) for index in range(30, 37)]
    save([[one.pixels() for one in part] for part in (seven[:7], seven[7:14], seven[14:], learnt)], "docs/pictures/people.jpg")

    one = replace(rendered.view(5, SEED, size=SIDE).moment, seed=5, distance=150.0, expression={"mouthSmile": 0.4})
    person = rendered.view(5, SEED, size=SIDE).person
    turned, lit, told = [], [], []
    for number, yaw in enumerate((-90, -60, -30, 0, 30, 60, 90)):
        view = rendered.View.at(person, replace(one, pose=Pose(yaw, 0, 0), body=(0.6 * yaw, 0)), SIDE, 0.5, (SIDE / 2, SIDE / 2))
        pixels, kind = view.drawn()
        turned.append(faces_on(pixels, [view.face]))
        told.append(PALETTE[kind])
        angle = np.deg2rad(-90 + 30 * number)
        lamp = Light((float(np.sin(angle)), 0.35, float(np.cos(angle))), 0.25, (0.8, 0.76, 0.7))
        lights = (Light((0.0, 1.0, 0.3), 1.0, (0.12, 0.12, 0.14)), lamp)
        front = replace(one, pose=Pose(0, 0, 0), body=(0, 0), lights=lights)
        lit.append(rendered.View.at(person, front, SIDE, 0.5, (SIDE / 2, SIDE / 2)).pixels())
    save([turned, told, lit], "docs/pictures/people_turned.jpg")
    assert len(PALETTE) == len(CLASSES)


if __name__ == "__main__":
    main()
