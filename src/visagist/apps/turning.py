"""`visagist rotate`: heads turned, one picture or a row of views, a film of them, the face as a mesh; relit by `relighting`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from visagist.apps.options import (
    MAX_PIXELS,
    Device,
    DeviceOption,
    FaceOption,
    InPlace,
    Json,
    MaxPixels,
    OutResult,
    Overwrite,
    Photos,
    Quiet,
    Seed,
    numbers,
)
from visagist.errors import FaceError, OutputError, UsageError

if TYPE_CHECKING:
    from visagist.apps.batch import Job
    from visagist.apps.report import Report
    from visagist.catalog import Loaded
    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

MOST_VIEWS = 61
MOST_OF_ONE = 2.0  # weight of an expression, as in `rotate.turn`
FAR = 30  # degrees from the photo's pose beyond which results are remarked on


class Background(StrEnum):
    """What is seen about a turned face."""

    mesh = "mesh"
    keep = "keep"
    plain = "plain"


class Skin(StrEnum):
    """What is shown of skin that the photo hides."""

    learnt = "learnt"
    own = "own"


def _degrees(text: str | None) -> Any:
    """DY,DP,DR as three numbers; None stays None."""
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 3 or not all(map(math.isfinite, found)):
        raise typer.BadParameter(f"{text!r} is not three numbers such as 20,0,0.")
    return found


def _lamp(text: str | None) -> Any:
    """AZ,EL as two numbers; None stays None."""
    found = numbers(text)
    if found is not None and (len(found) != 2 or not all(map(math.isfinite, found)) or abs(found[1]) > 90):
        raise typer.BadParameter(f"{text!r} is no direction such as 60,20, azimuth and elevation (-90 to 90) in degrees.")
    return found


def _span(text: str | None) -> Any:
    """FROM:TO:STEP as the yaws it means, both ends included; None stays None."""
    if text is None:
        return None
    try:
        first, last, step = (float(part) for part in text.split(":"))
        count = math.floor((last - first) / step + 1e-6) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if not 1 <= count <= MOST_VIEWS:
        raise typer.BadParameter(f"{text!r} is no row of 1 to {MOST_VIEWS} angles such as -45:45:15.")
    return tuple(first + i * step for i in range(count))


def _weights(text: str | None) -> Any:
    """NAME=W,NAME=W as a dict."""
    found: dict[str, float] = {}
    for part in (text or "").split(",") if text else []:
        name, _, weight = (word.strip() for word in part.partition("="))
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = math.nan
        if not name or not abs(found[name]) <= MOST_OF_ONE:  # also refuses NaN
            raise typer.BadParameter(f"{part!r} is no expression such as mouthSmile=0.6, with a weight from -2 to 2.")
    return found


def rotate(
    photos: Photos,
    yaw: Annotated[
        float | None, typer.Option("--yaw", help="Turn to; > 0: nose to the picture's right. Default: the photo's.")
    ] = None,
    pitch: Annotated[float | None, typer.Option("--pitch", help="Turn to; > 0: chin up. Default: the photo's.")] = None,
    roll: Annotated[float | None, typer.Option("--roll", help="Turn to; > 0: tipped clockwise. Default: the photo's.")] = None,
    turn: Annotated[
        str | None, typer.Option("--turn", metavar="DY,DP,DR", callback=_degrees, help="Turn by, instead; 0,0,0 changes nothing.")
    ] = None,
    expression: Annotated[
        str | None,
        typer.Option(
            "--expression", metavar="NAME=W,...", callback=_weights, help="Add expressions, such as mouthSmile=0.6; -2 to 2."
        ),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option("--views", metavar="FROM:TO:STEP", callback=_span, help="A sheet of these yaws instead, such as -45:45:15."),
    ] = None,
    film: Annotated[
        str | None, typer.Option("--film", metavar="FILE", help="Also a film of the --views: .gif, .webp, .mp4 or .avi.")
    ] = None,
    mesh: Annotated[
        str | None,
        typer.Option("--mesh", metavar="FILE", help="Also the largest chosen face as a mesh: .obj, .ply or .glb, the photo on it."),
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(
            "--depth", metavar="FILE.png", help="Also the result's depth at the largest chosen face, 16 bits, near is bright."
        ),
    ] = None,
    normals: Annotated[str | None, typer.Option("--normals", metavar="FILE.png", help="Also its normals, as colours.")] = None,
    background: Annotated[
        Background,
        typer.Option("--background", help="What is about the face: moved along with it, the photo as it is, or grey."),
    ] = Background.mesh,
    skin: Annotated[
        Skin,
        typer.Option(
            "--skin", help="Skin that the photo hides: colours learnt from portraits (research only), or only the photo's own."
        ),
    ] = Skin.learnt,
    light: Annotated[
        str | None,
        typer.Option("--light", metavar="AZ,EL", callback=_lamp, help="Light from there: 90,0 is the picture's right, 0,90 above."),
    ] = None,
    albedo: Annotated[str | None, typer.Option("--albedo", metavar="FILE.png", help="Also faces without their light.")] = None,
    slant: Annotated[str | None, typer.Option("--slant", metavar="FILE.png", help="Also how far the skin turns away.")] = None,
    tilt: Annotated[str | None, typer.Option("--tilt", metavar="FILE.png", help="Also in which direction it does.")] = None,
    reference: Annotated[
        str, typer.Option("--reference", metavar="fitted|mean|FILE.obj", help="shading: the face that is begun with.")
    ] = "fitted",
    known_albedo: Annotated[
        str | None,
        typer.Option(
            "--known-albedo",
            metavar="FILE",
            help="shading: how bright the skin is without light, a picture of the photo's size, black where nobody knows.",
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", show_default=False, help="shading: any other setting, such as order=2."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|PATH",
            help="morphable, or its weights file or run folder; shading: with the relief that the light on a face tells. "
            "Default: morphable, shading with --light, --albedo, --slant or --tilt.",
        ),
    ] = None,
    out: OutResult = None,
    in_place: InPlace = False,
    json: Json = False,
    face: FaceOption = "all",
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """Turn heads, believably to about 30 degrees; up to 75. Or put faces in another light."""
    from visagist import api, catalog
    from visagist.apps import batch, beside, meshes, relighting, repaint, upright, verbs
    from visagist.apps.report import printable

    angles: Any = views  # as `_span` has read them
    asked = {"yaw": yaw, "pitch": pitch, "roll": roll}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if turn is not None:
        given["turn"] = turn
    if expression:
        given["expression"] = expression
    if background is not Background.mesh:
        given["background"] = background.value
    options = verbs.Options(photos, out, json, quiet, overwrite, max_pixels, in_place=in_place, edits=True)
    own = {"albedo": albedo, "slant": slant, "tilt": tilt}
    if model is None:
        model = "shading" if light is not None or any(own.values()) else "morphable"
    if model == "shading":
        if skin is not Skin.learnt:
            raise UsageError("--skin is for --model morphable", code="usage", hint="shading uses the photo's own skin only")
        files = {name: path for name, path in {"mesh": mesh, "depth": depth, "normals": normals, **own}.items() if path is not None}
        settings = repaint.more_settings(set or [], "shading")
        wish = relighting.Asked(cast(Any, light), files, reference, settings, views is not None or film is not None, known_albedo)
        return relighting.rotate(options, wish, given, face=face, device=device.value)
    if light is not None or any(own.values()) or set or reference != "fitted" or known_albedo is not None:
        what = "--light, --albedo, --slant, --tilt, --reference, --known-albedo and --set are for --model shading"
        raise UsageError(what, code="usage")
    several = len(batch.collect(photos)[0]) > 1
    beside_it = {"film": film, "mesh": mesh, "depth": depth, "normals": normals}
    _check(given, views, beside_it, several=several, overwrite=overwrite)
    reports: list[Report] = []

    def do(job: Job) -> dict[str, Any]:
        assert job.out is not None
        photo = verbs._open(job, options)
        seen = api.detect(photo, device=device.value)
        way = upright.lying(photo, api.choose(seen, face) if seen else (), device.value)
        if not seen and way:
            raise FaceError("no face was found", code="no-face", hint=f"one is where the photo is turned {way}: do that first")
        found = api.landmarks(photo, api.choose(seen, face), device=device.value)
        loaded = catalog.load(model, device.value, verb="rotate")
        if not hasattr(loaded.recipe, "turns"):
            hint = "choose morphable or shading"
            raise UsageError(f"{model[:80]} is {loaded.system.name}, which turns no heads", code="wrong-verb", hint=hint)
        told = [_turns(loaded, one, given, angles or (yaw,)) for one in found]
        able = [one for one, made in zip(found, told, strict=True) if not isinstance(made, FaceError)]
        if not able:
            error = next(made for made in told if isinstance(made, FaceError))
            raise FaceError(error.what, code=error.code, hint=f"turn the photo {way} first") if way else error
        how = {**given, "faces": able, "model": model, "device": device.value, "skin": skin.value}
        turned = api.rotate(photo, **how) if angles is None else _sheet(photo, angles, how, film, overwrite)
        first = next(made for made in told if not isinstance(made, FaceError))
        if mesh is not None:
            colours = None
            if mesh.lower().endswith(".ply") and skin is Skin.learnt:  # only there a vertex can have a colour that no photo shows
                texture: Any = catalog.load("texture", device.value).nets["skin"]
                colours = loaded.recipe.colours(loaded.nets, photo.pixels, first[0].found, texture.texture())
            meshes.write(mesh, loaded.recipe.mesh(loaded.nets, photo, able[0]), photo, overwrite, colours=colours)
        _write_maps(depth, normals, loaded, turned, first[0], overwrite)
        turned.save(job.out, overwrite=overwrite or job.in_place)
        fits = [_fit(made, angles is not None) for made in told]
        for fit, made in zip(fits, told, strict=True):
            if not isinstance(made, FaceError):
                fit["doubts"] = list(loaded.recipe.doubts(loaded.nets, photo, made[0].found, made[0].to))
        if way:
            what = f"the photo seems to lie on its side or head: turned {way}, its faces are found more surely; do that first"
            reports[0].remarks(job.name, what)
        _remark(reports[0], job, told, fits)
        return {**verbs._record(job, photo, dict(enumerate(found, 1))), "fits": fits}

    def cells(record: dict[str, Any]) -> list[list[str]]:
        poses = ["/".join(f"{v:.0f}" for v in fit["pose"].values()) if "pose" in fit else "-" for fit in record["fits"]]
        return [[" ".join(poses), printable(record["out"])]]

    def planned(jobs: Sequence[Job]) -> None:
        catalog.check(model, "rotate")
        wanted = {name: path for name, path in beside_it.items() if path is not None}
        beside.guard(jobs, {name: meshes.files(path) if name == "mesh" else (path,) for name, path in wanted.items()})

    columns = {"was at": 12, "result": 0}
    more: dict[str, Any] = {"fits": []}
    return verbs._through(options, "rotate", do, columns, cells, "turned", more=more, opened=reports.append, planned=planned)


def _check(given: Mapping[str, Any], views: Any, files: Mapping[str, str | None], *, several: bool, overwrite: bool) -> None:
    """What would go wrong is said before any photo is opened."""
    from visagist.apps import meshes

    asked = {name: path for name, path in files.items() if path is not None}
    if "turn" in given and {"yaw", "pitch", "roll"} & given.keys():
        raise UsageError(
            "--turn is by how much, --yaw, --pitch and --roll are to where", code="usage", hint="give one or the other"
        )
    if views is not None and ("yaw" in given or "turn" in given):
        raise UsageError("--views gives the yaws itself", code="usage", hint="leave --yaw and --turn out")
    if not given and views is None and not {"mesh", "depth", "normals"} & asked.keys():
        raise UsageError("nothing says how to turn", code="usage", hint="give --yaw, --turn, --views or --expression")
    if "film" in asked and views is None:
        raise UsageError("a film shows several views", code="usage", hint="add --views -30:30:5")
    if several and asked:
        raise UsageError("a film, a mesh or a map shows one photo", code="usage", hint="name one photo")
    if views is not None and {"depth", "normals"} & asked.keys():
        raise UsageError("depth and normals show one view", code="usage", hint="give --yaw instead of --views")
    if "mesh" in asked:
        meshes.check(asked["mesh"], overwrite)
    for name in {"depth", "normals"} & asked.keys():
        if not asked[name].lower().endswith(".png"):
            raise UsageError(f"{name} is written as .png", code="usage", path=asked[name])
        if not overwrite and os.path.lexists(asked[name]):
            raise OutputError("the file exists already", code="exists", path=asked[name], hint="--overwrite replaces it")


def _turns(loaded: Loaded, face: Face, given: Mapping[str, Any], yaws: Sequence[float | None]) -> Any:
    """How a face is turned for each of the views, or the FaceError that says why it cannot be: one face of a group must not stop
    the others."""
    how = {name: given[name] for name in ("turn", "expression") if name in given}
    rest = given.get("pitch"), given.get("roll")
    try:
        return [loaded.recipe.turns(loaded.nets, [face], pose=(yaw, *rest), **how)[0] for yaw in yaws]
    except FaceError as error:
        return error


def _fit(made: Any, views: bool) -> dict[str, Any]:
    """The record of a face; of several views, what differs between them is a list."""
    if isinstance(made, FaceError):
        return {"error": {"code": made.code, "message": str(made)}}
    fit: dict[str, Any] = made[0].as_dict()
    for name in ("turned_to", "angle", "visible", "extrapolated") if views else ():
        fit[name] = [one.as_dict()[name] for one in made]
    return fit


def _remark(report: Report, job: Job, told: Sequence[Any], fits: Sequence[Mapping[str, Any]]) -> None:
    """Say it where heads are turned further than is believable, which are doubtful, and which are not turned at all."""
    for number, (error, fit) in enumerate(zip(told, fits, strict=True), 1):
        which = f"face {number} of {len(told)}"
        if isinstance(error, FaceError):
            report.remarks(job.name, f"{which} stays as it is: [{error.code}] {error}")
        for doubt in fit.get("doubts", ()):
            report.remarks(job.name, f"{which}: {doubt}")
    furthest = max((one for made in told if not isinstance(made, FaceError) for one in made), key=lambda one: one.angle)
    if furthest.angle > FAR:
        guessed = "much of it is guessed" if furthest.extrapolated else "expect stretched skin"
        seen = f"the photo shows {furthest.visible:.0%} of the face in the result"
        report.remarks(job.name, f"turned by {furthest.angle:.0f} degrees, more than the {FAR} that look right: {guessed}; {seen}")


def _write_maps(depth: str | None, normals: str | None, loaded: Loaded, turned: Photo, one: Any, overwrite: bool) -> None:
    """Depth and normals of a head in the result."""
    if depth is None and normals is None:
        return
    from visagist.photo.maps import depth_map, normal_map, save_map

    near, pointing, there = loaded.recipe.maps(loaded.nets, turned.size, one.to)
    for path, values in ((depth, depth_map(near, there)), (normals, normal_map(pointing, there))):
        if path is not None:
            save_map(path, values, turned.history, overwrite=overwrite)


def _sheet(photo: Photo, views: Sequence[float], how: Mapping[str, Any], film: str | None, overwrite: bool) -> Photo:
    """The photo with a sheet of views in the place of its pixels; also writes the film, to and fro."""
    from visagist import api
    from visagist.photo.draw import sheet
    from visagist.photo.film import Film

    moving = None if film is None else Film(film, overwrite=overwrite)
    turned = [api.rotate(photo, yaw=view, **how) for view in views]
    step = turned[0].history[-1]
    step = replace(step, settings={**step.settings, "yaw": None, "views": " ".join(f"{view:g}" for view in views)})
    if moving is not None:
        for one in _there_and_back(turned):
            moving.add(one.pixels)
        moving.save((step,))
    tiles = [_around(one.pixels, how["faces"]) for one in turned]
    pixels = sheet(tiles, [f"{view:g}" for view in views], columns=min(len(views), 7))
    return photo.edited(pixels, step)


def _there_and_back(turned: Sequence[Photo]) -> Iterator[Photo]:
    yield from turned
    yield from reversed(turned[1:-1])


def _around(pixels: Any, faces: Sequence[Face]) -> Any:
    """The part of the picture about the faces: once their size on every side."""
    boxes = [face.box for face in faces]
    reach = max(b[3] - b[1] for b in boxes)
    x0, y0 = (max(0, int(min(b[i] for b in boxes) - 0.8 * reach)) for i in range(2))
    x1, y1 = (int(max(b[i] for b in boxes) + 0.8 * reach) + 1 for i in (2, 3))
    return pixels[y0:y1, x0:x1]
