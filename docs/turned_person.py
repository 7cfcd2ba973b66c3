"""Draw docs/pictures/rotate_people.webp: a rendered person, who is nobody, turned from one picture; under it as drawn in that pose.

python docs/turned_person.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import visagist
from visagist.photo.decoding import Encoding
from visagist.photo.draw import sheet
from visagist.photo.face import Pose
from visagist.photo.photo import Photo
from visagist.training.data import rendered

SEED, WHO, SIDE = 2026, 11, 240
YAWS = (-45, -30, -15, 0, 15, 30, 45)


def main() -> None:
    first = rendered.view(WHO, SEED, size=SIDE)
    still = replace(first.moment, seed=WHO, distance=150.0, expression={"mouthSmile": 0.3})

    def posed(yaw: float) -> rendered.View:
        moment = replace(still, pose=Pose(yaw, 0, 0), body=(0.6 * yaw, 0))
        return rendered.View.at(first.person, moment, SIDE, 0.5, (SIDE / 2, SIDE / 2))

    plain = np.full((SIDE, SIDE, 3), (203, 209, 214), np.uint8)
    front = posed(0)
    photo = replace(Photo.of(front.drawn(plain)[0]), format="WEBP", encoding=Encoding(quality=78))
    turned = [visagist.rotate(photo, yaw=float(yaw), faces=(front.face,)) for yaw in YAWS]
    tiles = [*(one.pixels for one in turned), *(posed(yaw).drawn(plain)[0] for yaw in YAWS)]
    captions = [*(f"turned to {yaw}" for yaw in YAWS), *(f"drawn at {yaw}" for yaw in YAWS)]
    made = sheet([np.ascontiguousarray(tile[20:220, 20:220]) for tile in tiles], captions, columns=len(YAWS))
    photo.edited(made, turned[0].history[-1]).save(Path(__file__).parent / "pictures" / "rotate_people.webp", overwrite=True)


if __name__ == "__main__":
    main()
