"""`visagist rotate --model shading`: the relief that shading tells, as maps and meshes; faces in another light, and turned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.errors import FaceError, OutputError, PhotoError, UsageError

if TYPE_CHECKING:
    from visagist.apps.batch import Job
    from visagist.apps.report import Report
    from visagist.apps.verbs import Options
    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

MAPS = ("depth", "normals", "albedo", "slant", "tilt")


@dataclass(frozen=True)
class Asked:
    """What the command was asked for beside turning.

    light      azimuth and elevation of a lamp
    files      of MAPS and "mesh", those that are to be written, by name
    reference  fitted, mean, or an .obj file of a face
    settings   fields of `rotate.shading.Shading`
    views      whether a sheet of views or a film was asked for, which the model morphable makes
    known      a picture of the photo's albedo
    """

    light: tuple[float, float] | None
    files: Mapping[str, str]
    reference: str
    settings: Mapping[str, Any]
    views: bool = False
    known: str | None = None


def rotate(options: Options, asked: Asked, turning: Mapping[str, Any], *, face: int | str, device: str) -> int:
    """Write the photo with faces relit and turned, and the files. Returns the exit code. turning: as `api.rotate` takes it."""
    from visagist import api, catalog
    from visagist.apps import batch, beside, meshes, verbs
    from visagist.apps.report import printable

    _check(asked, turning, several=len(batch.collect(options.photos)[0]) > 1, overwrite=options.overwrite)
    settings = dict(asked.settings)
    settings["reference"] = asked.reference if asked.reference in ("fitted", "mean") else "mean"
    recipe: Any = catalog.recipe("shading", **settings)  # what is wrong with them is said before a photo is opened
    own = asked.reference != settings["reference"]
    begun: dict[str, Any] = {"other": None}  # read once it is known that nothing replaces it
    known = None if asked.known is None else _read(asked.known, options.max_pixels)
    reports: list[Report] = []

    def do(job: Job) -> dict[str, Any]:
        assert job.out is not None
        photo = verbs._open(job, options)
        found = api.landmarks(photo, api.choose(api.detect(photo, device=device), face), device=device)
        loaded = catalog.load("morphable", device)
        told = [_told(recipe, loaded, photo, one, {**begun, "known": known}) for one in found]
        reliefs = [one for one in told if not isinstance(one, FaceError)]
        if not reliefs:
            raise next(one for one in told if isinstance(one, FaceError))
        more = {"light": asked.light, "reliefs": reliefs, "known_albedo": asked.known, **settings}
        made = api.rotate(photo, faces=found, model="shading", device=device, **turning, **more)
        if "mesh" in asked.files:
            meshes.write(asked.files["mesh"], reliefs[0].mesh(photo.size), photo, options.overwrite)
        _write_maps(photo, reliefs, asked.files, made, options.overwrite)
        made.save(job.out, overwrite=options.overwrite or job.in_place)
        if any(relief.frontal for relief in reliefs):
            what = "the light comes nearly from the camera and tells little: the shape is mostly that of the fitted model"
            reports[0].remarks(job.name, what)
        record = verbs._record(job, photo, dict(enumerate(found, 1)))
        record["fits"] = [None if isinstance(one, FaceError) else _fit(loaded, photo, one) for one in told]
        for number, (one, fit) in enumerate(zip(told, record["fits"], strict=True), 1):
            which = f"face {number} of {len(told)}"
            if isinstance(one, FaceError):
                reports[0].remarks(job.name, f"{which} stays as it is: [{one.code}] {one}")
            for doubt in fit["doubts"] if fit else ():
                reports[0].remarks(job.name, f"{which}: {doubt}")
        record["reliefs"] = [_failed(one) if isinstance(one, FaceError) else one.as_dict() for one in told]
        return record

    def cells(record: dict[str, Any]) -> list[list[str]]:
        changed = [f"{one['changed_mm']['mean']:.1f}" if "changed_mm" in one else "-" for one in record["reliefs"]]
        return [[" ".join(changed), printable(record["out"])]]

    def planned(jobs: Sequence[Job]) -> None:
        files = {name: meshes.files(path) if name == "mesh" else (path,) for name, path in asked.files.items()}
        read = [asked.reference if own else None, asked.known]
        beside.guard(jobs, files, read=[path for path in read if path is not None])
        if own:
            begun["other"] = _reference(asked.reference, recipe, device)

    columns = {"relief mm": 9, "result": 0}
    more: dict[str, Any] = {"fits": [], "reliefs": []}
    return verbs._through(options, "rotate", do, columns, cells, "worked on", more=more, opened=reports.append, planned=planned)


def _told(recipe: Any, loaded: Any, photo: Photo, face: Face, given: Mapping[str, Any]) -> Any:
    """The relief of a face, or the FaceError that says why there is none: one face of a group must not stop the others."""
    from visagist import catalog

    whole = catalog.load("morphable-head", str(loaded.device))
    try:
        return recipe.reliefs(loaded.nets, photo, [face], turner=loaded.recipe, bust=whole.recipe.model(whole.nets), **given)[0]
    except FaceError as error:
        return error


def _reference(path: str, recipe: Any, device: str) -> Any:
    """A face to begin with and the vertices of its points. UsageError "bad-reference" that names the file."""
    from visagist import catalog
    from visagist.training.data import meshes as readers

    other = readers.one(Path(path))
    loaded = catalog.load("morphable", device)
    try:
        recipe.begun_with(loaded.nets, other, turner=loaded.recipe)
    except UsageError as error:
        raise UsageError(error.what, code=error.code, path=Path(path).parent / readers.LANDMARKS, hint=error.hint) from None
    return other


def _read(path: str, max_pixels: int) -> Any:
    """The pixels of a known albedo. UsageError "bad-albedo" for a file that is no picture."""
    from visagist.photo.photo import Photo

    try:
        return Photo.open(path, max_pixels=max_pixels).pixels
    except PhotoError as error:
        raise UsageError(f"no known albedo: {error.what}", code="bad-albedo", path=path, hint=error.hint) from None


def _fit(loaded: Any, photo: Photo, relief: Any) -> dict[str, Any]:
    """The record of the head below a relief."""
    fit: dict[str, Any] = relief.found.as_dict()
    return {**fit, "doubts": list(loaded.recipe.doubts(loaded.nets, photo, relief.found))}


def _failed(error: FaceError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": str(error)}}


def _check(asked: Asked, turning: Mapping[str, Any], *, several: bool, overwrite: bool) -> None:
    """What would go wrong is said before any photo is opened."""
    from visagist.apps import meshes

    if not turning and asked.light is None and not asked.files:
        hint = "give --light, --yaw, --turn, --depth, --normals, --albedo or --mesh"
        raise UsageError("nothing says what to do", code="usage", hint=hint)
    if asked.views:
        raise UsageError("--views and --film are for --model morphable", code="usage", hint="turn with --yaw")
    if "background" in turning:
        raise UsageError("--background is for --model morphable", code="usage", hint="leave it out")
    if "turn" in turning and {"yaw", "pitch", "roll"} & turning.keys():
        what = "--turn is by how much, --yaw, --pitch and --roll are to where"
        raise UsageError(what, code="usage", hint="give one or the other")
    if turning and asked.reference not in ("fitted", "mean"):
        raise UsageError("heads turn with the morphable model", code="usage", hint="leave --reference out, or choose mean")
    if several and (asked.files or asked.known is not None):
        raise UsageError("a mesh, a map or a known albedo is that of one photo", code="usage", hint="name one photo")
    for name, path in asked.files.items():
        if name == "mesh":
            meshes.check(path, overwrite)
        elif not path.lower().endswith(".png"):
            raise UsageError(f"{name} is written as .png", code="usage", path=path)
        elif not overwrite and os.path.lexists(path):
            raise OutputError("the file exists already", code="exists", path=path, hint="--overwrite replaces it")


def _write_maps(photo: Photo, reliefs: Sequence[Any], files: Mapping[str, str], made: Photo, overwrite: bool) -> None:
    """The maps of all faces in the photo's pixels, before any turn; where two lie over each other, the larger face's."""
    import numpy as np

    from visagist.photo import maps

    wanted = [name for name in MAPS if name in files]
    out = {name: np.zeros(photo.size, np.uint16) if name == "depth" else np.zeros_like(photo.pixels) for name in wanted}
    for relief in reversed(reliefs) if wanted else ():
        area = relief.area(photo.size)
        normals, there = relief.laid(relief.normals, photo.size, area)
        normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-6)
        for name in wanted:
            if name == "depth":
                shown = maps.depth_map(relief.laid(relief.depth * (10 / relief.unit), photo.size, area)[0], there)
            elif name == "albedo":
                shown = relief.albedo_of(photo.pixels)[area]
            else:
                make = {"normals": maps.normal_map, "slant": maps.slant_map, "tilt": maps.tilt_map}[name]
                shown = make(normals, there)
            out[name][area][there] = shown[there]
    for name in wanted:
        maps.save_map(files[name], out[name], made.history, overwrite=overwrite)
