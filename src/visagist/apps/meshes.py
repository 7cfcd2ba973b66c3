"""Faces as mesh files: OBJ with its material and texture, PLY with colours, GLB in one file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.errors import OutputError, UsageError

if TYPE_CHECKING:
    from visagist.photo.photo import Photo

ENDINGS = (".obj", ".ply", ".glb")


def files(path: str) -> tuple[str, ...]:
    """What is written for a mesh of this name: the surface first, with an .obj also its material and its texture."""
    stem, ending = os.path.splitext(path)
    return (path, stem + ".mtl", stem + ".png") if ending.lower() == ".obj" else (path,)


def check(path: str, overwrite: bool) -> None:
    """UsageError for another ending; OutputError "exists" before the work where a file would be replaced."""
    if os.path.splitext(path)[1].lower() not in ENDINGS:
        raise UsageError("meshes are written as " + ", ".join(ENDINGS), code="usage", path=path)
    for name in files(path):
        if not overwrite and os.path.lexists(name):
            raise OutputError("the file exists already", code="exists", path=name, hint="--overwrite replaces it")


def write(path: str, mesh: Any, photo: Photo, overwrite: bool, *, colours: Any = None) -> None:
    """Write the mesh (a `head.mesh.Mesh` whose uv lie in the photo) and what belongs to it; the photo is its texture, and says so.

    colours  float [N, 3], 0..255: of the vertices, for a .ply; None: those of the photo where they are seen in it
    """
    import numpy as np

    from visagist.photo.photo import Step
    from visagist.weights.card import write_atomically

    surface, *others = files(path)
    photo = photo.edited(photo.pixels, Step("rotate", "mesh", settings={"texture_of": os.path.basename(path)}))
    if others:
        material, texture = others
        photo.save(texture, overwrite=overwrite)
        described = f"newmtl photo\nKa 1 1 1\nKd 1 1 1\nmap_Kd {os.path.basename(texture)}\n"
        write_atomically(Path(material), described.encode())
        write_atomically(Path(surface), mesh.obj("photo", os.path.basename(material)).encode())
    elif surface.lower().endswith(".ply"):
        high, wide = photo.size
        if colours is not None:
            write_atomically(Path(surface), mesh.ply(np.rint(np.clip(colours, 0, 255)).astype(np.uint8)))
            return
        x = np.clip((mesh.uv[:, 0] * wide).astype(int), 0, wide - 1)
        y = np.clip(((1 - mesh.uv[:, 1]) * high).astype(int), 0, high - 1)
        write_atomically(Path(surface), mesh.ply(photo.pixels[y, x]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            texture = os.path.join(folder, "texture.png")
            photo.save(texture)
            picture = Path(texture).read_bytes()
        write_atomically(Path(surface), mesh.glb(picture))
