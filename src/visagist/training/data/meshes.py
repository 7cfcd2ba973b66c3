"""Registered surfaces: meshes of one topology, from which a morphable model is learnt.

    ict_face.npz (neutral, identity, expression, triangles, landmarks68 ...)   the light ICT face model in one file
    generic_neutral_mesh.obj, identity000.obj ..., NAME.obj                    the same as its source gives it
    any other *.obj of equal vertices, and landmarks68.txt                     scans; the text holds 68 numbers of vertices

Items have no photo. facts["kind"] is "neutral", "identity", "expression" or "scan"; `arrays` hold `vertices` (neutral, scan) or
`move`, the way from the neutral face (identity, expression), float32 [N, 3]; the first item's also `triangles` and `landmarks68`.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visagist.errors import UsageError
from visagist.head.mesh import Mesh
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data.tables import Offenders

NEUTRAL = "generic_neutral_mesh.obj"
LANDMARKS = "landmarks68.txt"
MAX_BYTES = 2 << 30  # of an npz, unpacked
MAX_TEXT = 256 << 20  # of an .obj that one face is read from
# Vertices of the 68 points in meshes of the ICT model (USC Institute for Creative Technologies, MIT licence).
ICT_LANDMARKS = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268, 493, 1914, 2044, 1401,
    3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360, 1507, 1542, 1537, 1528, 1518, 1511, 3742,
    3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216,
    6207, 6470, 5517, 5966,
)  # fmt: skip


def files(path: Path) -> list[Path]:
    """The files of meshes that a path means: an .npz, or the .npz or .obj files of a folder; [] where it means none."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".npz" else []
    found = sorted(path.glob("*.npz"))
    return found or sorted(path.glob("*.obj"))


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """The items of one set; what is wrong with its files goes to `offenders`. Such sets have no folds."""
    found = files(path)
    name = (path if path.is_dir() else path.parent).resolve().name
    if found[0].suffix.lower() == ".npz":
        return [item for file in found for item in _packed(file, name, offenders)]
    return _objects(found, name, offenders)


def one(path: Path) -> tuple[Mesh, np.ndarray]:
    """The face of an .obj file and the vertices [68] of its points, from the `landmarks68.txt` beside it.

    UsageError "bad-reference" that names the file.
    """
    beside = path.parent / LANDMARKS
    about = path
    try:
        if path.stat().st_size > MAX_TEXT:
            raise ValueError(f"it has more than {MAX_TEXT >> 20} MB")
        mesh = Mesh.of_obj(path.read_text(encoding="utf-8", errors="replace"))
        if not len(mesh.vertices) or not len(mesh.triangles):
            raise ValueError("it has no vertices or no polygons")
        about = beside
        return mesh, _landmarks(np.array([int(word) for word in beside.read_text(encoding="utf-8").split()]), len(mesh.vertices))
    except OSError as error:
        hint = f"an .obj file needs a {LANDMARKS} beside it: the numbers, from 0, of its vertices at the 68 points"
        raise UsageError(f"it cannot be read ({error.strerror})", code="bad-reference", path=about, hint=hint) from None
    except ValueError as error:
        raise UsageError(f"no face with 68 points: {error}", code="bad-reference", path=about) from None


def _packed(file: Path, name: str, offenders: Offenders) -> list[Item]:
    """The light ICT model of an .npz."""
    try:
        with zipfile.ZipFile(file) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > MAX_BYTES:
                raise ValueError("it unpacks to more than 2 GB")
        with np.load(file, allow_pickle=False) as opened:
            wanted = ("neutral", "identity", "expression", "triangles", "landmarks68", "identity_names", "expression_names")
            if absent := [key for key in wanted if key not in opened.files]:
                raise ValueError(f"it has no {' and no '.join(absent)}")
            arrays = {key: opened[key] for key in wanted}
        mesh = Mesh(arrays["neutral"].astype(np.float32), arrays["triangles"])
        landmarks = _landmarks(arrays["landmarks68"], len(mesh.vertices))
        items = [_item("neutral", "neutral", name, vertices=mesh.vertices, triangles=mesh.triangles, landmarks68=landmarks)]
        for kind in ("identity", "expression"):
            moves, names = arrays[kind], arrays[f"{kind}_names"].astype(str)
            if moves.ndim != 3 or moves.shape[1:] != mesh.vertices.shape or len(names) != len(moves):
                raise ValueError(f"{kind} has shape {list(moves.shape)} and {len(names)} names")
            if not np.isfinite(moves).all():
                raise ValueError(f"{kind} holds numbers that are not finite")
            items += [_item(kind, str(n), name, move=m.astype(np.float32)) for n, m in zip(names, moves, strict=True)]
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        offenders.add(file, None, f"no face model in an npz: {error}")
        return []
    return items


def _objects(found: list[Path], name: str, offenders: Offenders) -> list[Item]:
    """Meshes of .obj files: in the layout of the ICT model, or scans."""
    meshes: dict[str, Mesh] = {}
    folder = found[0].parent
    first = next((file for file in found if file.name == NEUTRAL), found[0])
    for file in [first, *(f for f in found if f != first)]:
        try:
            mesh = Mesh.of_obj(file.read_text(encoding="utf-8", errors="replace"))
            if not len(mesh.vertices) or not len(mesh.triangles):
                raise ValueError("it has no vertices or no polygons")
            known = next(iter(meshes.values()), mesh)
            if mesh.vertices.shape != known.vertices.shape or not np.array_equal(mesh.triangles, known.triangles):
                what = f"{len(mesh.vertices)} vertices, not in the topology of {first.name} with {len(known.vertices)}"
                raise ValueError(what)
        except (OSError, ValueError) as error:
            offenders.add(file, None, str(error))
            continue
        meshes[file.name] = mesh
    if first.name not in meshes:
        return []
    known = meshes[first.name]
    try:
        listed = folder / LANDMARKS
        if listed.is_file():
            numbers = np.array([int(word) for word in listed.read_text(encoding="utf-8").split()])
        elif first.name == NEUTRAL:
            numbers = np.array(ICT_LANDMARKS)
        else:
            raise ValueError("not there: it lists the vertices of the 68 points")
        landmarks = _landmarks(numbers, len(known.vertices))
    except (OSError, ValueError) as error:
        offenders.add(folder / LANDMARKS, None, str(error))
        return []
    items: list[Item] = []
    for file_name, mesh in meshes.items():
        stem = Path(file_name).stem
        shared = {"triangles": known.triangles, "landmarks68": landmarks} if not items else {}
        vertices = mesh.vertices.astype(np.float32)
        if first.name != NEUTRAL or file_name == NEUTRAL:
            items.append(_item("neutral" if file_name == NEUTRAL else "scan", stem, name, vertices=vertices, **shared))
        else:
            kind = "identity" if re.fullmatch(r"identity\d+", stem) else "expression"
            items.append(_item(kind, stem, name, move=vertices - known.vertices.astype(np.float32)))
    return items


def _landmarks(numbers: np.ndarray, count: int) -> np.ndarray:
    if numbers.shape != (68,) or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0 or numbers.max() >= count:
        raise ValueError(f"landmarks68 are 68 numbers from 0 to {count - 1}")
    return numbers.astype(np.int64)


def _item(kind: str, name: str, of: str, **arrays: np.ndarray) -> Item:
    total = float(sum(np.abs(values).sum(dtype=np.float64) for values in arrays.values()))  # tells one set from another
    facts: Mapping[str, float | str] = {"set": of, "kind": kind, "sum": total}
    return Item(name, _no_picture, complete=False, facts=facts, arrays=arrays)


def _no_picture() -> Photo:
    """One grey pixel: a mesh has no photo."""
    return Photo.of(np.full((1, 1, 3), 128, np.uint8))
