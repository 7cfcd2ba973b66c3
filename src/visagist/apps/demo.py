"""`visagist demo`: the main job on a portrait in the public domain, as one before/after sheet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from visagist.apps import batch
from visagist.errors import OutputError

if TYPE_CHECKING:
    import numpy as np

    from visagist.photo.face import Face

CELL = 384  # side of a picture on the sheet, in pixels


def demo(out: str, *, overwrite: bool, device: str, quiet: bool) -> int:
    """Find the face and the points of `skimage.data.astronaut()`, paint it with every finish, write the sheet. Returns 0."""
    from visagist.photo.photo import Photo, Step, is_marked

    if os.path.lexists(out) and not (overwrite or is_marked(out)):  # an earlier sheet of ours may go
        hint = "replace it with --overwrite, or name another with -o"
        raise OutputError("the file exists already", code="exists", path=out, hint=hint)
    batch.make_room(out)
    from skimage.data import astronaut  # Eileen Collins, NASA 1992, public domain; comes with scikit-image

    from visagist import api
    from visagist.apps.report import waiting
    from visagist.photo import draw

    photo = Photo.of(astronaut())
    with waiting("looking for the face", quiet):
        faces = api.landmarks(photo, api.detect(photo, device=device), device=device)
    pictures = [photo.pixels, draw.faces_on(photo.pixels, faces)]
    captions = ["the photo", "face and 68 points"]
    painted = photo
    for finish in api.FINISHES:
        with waiting(f"painting: {finish}", quiet):
            painted = api.makeup(photo, finish=finish, faces=faces, device=device)  # type: ignore[arg-type]
        pictures.append(painted.pixels)
        captions.append(finish)
    place = _around(api.choose(faces, "largest")[0], photo.size)
    rows = [*pictures, *(_cut(picture, place) for picture in pictures)]
    sheet = draw.sheet(rows, [*captions, *captions], columns=len(pictures), cell=(CELL, CELL))
    made = Step(painted.history[-1].verb, painted.history[-1].system, painted.history[-1].weights, {"finish": "all"})
    Photo.of(sheet).edited(sheet, made).save(out, overwrite=True)
    if not quiet:
        print(f"{out}: before, what was found, and {', '.join(api.FINISHES)}; photograph by NASA, public domain")
    return 0


def _around(face: Face, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square about the mouth, a little wider than the face, moved into the photo: left, top, right, bottom in pixels."""
    lips = face.outer_lips
    side = min(int(1.1 * (face.box[2] - face.box[0])), *size)
    x, y = lips.mean(0)
    left = int(min(max(x - side / 2, 0), size[1] - side))
    top = int(min(max(y - side / 2, 0), size[0] - side))
    return left, top, left + side, top + side


def _cut(pixels: np.ndarray, place: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = place
    return pixels[top:bottom, left:right]
