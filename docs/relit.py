"""Draw docs/pictures/relight.webp: the astronaut, her normals and albedo as shading tells them, and her face in four other lights.

    python docs/relit.py

The portrait of Eileen Collins is by NASA, in the public domain, as distributed with scikit-image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data

import visagist
from visagist.photo.draw import sheet
from visagist.photo.maps import normal_map
from visagist.photo.photo import Photo

LIGHTS = ((75, 15), (-75, 15), (0, 75), (0, -60))
AROUND = np.s_[20:230, 115:335]  # of the portrait


def main() -> None:
    photo = Photo.of(skimage.data.astronaut())
    faces = visagist.landmarks(photo)
    (relief,) = visagist.relief(photo, faces=faces)
    normals, there = relief.laid(relief.normals, photo.size)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-6)
    lit = [visagist.rotate(photo, faces=faces, reliefs=(relief,), light=light) for light in LIGHTS]
    pictures = [photo.pixels, normal_map(normals, there), relief.albedo_of(photo.pixels), *(one.pixels for one in lit)]
    captions = ["photo", "normals", "albedo", *(f"{azimuth},{elevation}" for azimuth, elevation in LIGHTS)]
    tiles = [np.ascontiguousarray(pixels[AROUND]) for pixels in pictures]
    made = sheet(tiles, captions, columns=len(tiles))
    photo.edited(made, lit[0].history[-1]).save(Path(__file__).parent / "pictures" / "relight.webp", overwrite=True)


if __name__ == "__main__":
    main()
