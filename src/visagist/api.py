"""The waist: one function per verb, photo in, photo or faces out.

Every function takes a `Photo`, the path of one, or a uint8 array [H, W, 3] of upright RGB pixels. Boxes and points are (x, y) in
pixels of the whole upright photo; faces are numbered from 1 by falling area. Networks are loaded on first use and kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, Literal

import numpy as np

from visagist import catalog
from visagist.errors import FaceError, UsageError
from visagist.photo.choice import choose as choose
from visagist.photo.face import Face
from visagist.photo.photo import Photo, Step

Settings = Mapping[str, Any]
PhotoLike = Photo | str | PathLike[str] | np.ndarray
FINISHES = ("glazed", "glossy", "tint")


def detect(photo: PhotoLike, *, model: str = "yolo", min_score: float = 0.5, device: str = "auto") -> tuple[Face, ...]:
    """Find the faces in a photo.

    photo      Photo, path, or uint8 array [H, W, 3]
    model      name of a detector, or the path of its weights file or run folder
    min_score  0..1; lower finds more faces and more that are none
    device     "auto", "cpu" or "cuda"

    Returns the faces by falling area, each with box and score; none is an empty tuple. PhotoError when the photo cannot be
    read, WeightsError for weights that cannot be used, UsageError for options that cannot be.

    >>> faces = visagist.detect("holiday.jpg")
    >>> [face.box for face in faces]
    [(171.2, 62.9, 283.0, 209.4)]
    """
    _within(min_score, "min_score")
    loaded = catalog.load(model, device, verb="detect")
    with loaded.inference():
        faces: tuple[Face, ...] = loaded.recipe.detect(loaded.nets, as_photo(photo), min_score=min_score)
    return faces


def landmarks(
    photo: PhotoLike, faces: Sequence[Face] | None = None, *, model: str = "landmarks68", device: str = "auto"
) -> tuple[Face, ...]:
    """Find the points of faces, and the pose of the heads.

    photo   Photo, path, or uint8 array [H, W, 3]
    faces   where to look, by their boxes; default: what `detect` finds
    model   name of a landmark system, or the path of its weights file or run folder
    device  "auto", "cpu" or "cuda"

    Returns the same faces in the same order with `points` [68, 2], `scheme` and `pose` in degrees; of "keypoint-cnn" 15 points,
    `spread` and a `doubt` where there is probably no face. Errors as `detect`.

    >>> face = visagist.landmarks("holiday.jpg")[0]
    >>> face.outer_lips.shape, face.pose.yaw
    ((12, 2), 3.1)
    """
    photo = as_photo(photo)
    loaded = catalog.load(model, device, verb="landmarks")
    faces = detect(photo, device=device) if faces is None else faces
    with loaded.inference():
        found: tuple[Face, ...] = loaded.recipe.landmarks(loaded.nets, photo, tuple(faces))
    return found


def makeup(
    photo: PhotoLike,
    *,
    finish: Literal["glazed", "glossy", "tint"],
    shade: str = "#b0123a",
    strength: float = 1.0,
    face: int | str = "all",
    faces: Sequence[Face] | None = None,
    device: str = "auto",
    model: str = "lipstick",
) -> Photo:
    """Paint the lips of the faces in a photo. Everything but the lips comes back bit for bit.

    photo     Photo, path, or uint8 array [H, W, 3]
    finish    "glazed" (saturated red), "glossy" (light, shiny) or "tint" (any colour)
    shade     the colour of a tint, "#rrggbb"; the other finishes bring their own
    strength  0..1, how much of it
    face      "all", "largest", or a number from 1 by falling area
    faces     faces found before, with or without points, instead of looking for them; `face` then counts these
    device    "auto", "cpu" or "cuda"
    model     "lipstick", or the path of its weights file or run folder

    Returns the painted photo with the step added to its history. FaceError "no-face" or "no-such-face" when there is nobody
    to paint; other errors as `detect`.

    >>> visagist.makeup("me.jpg", finish="tint", shade="#7a1f3d", strength=0.7).save("me.makeup.jpg")
    """
    if finish not in FINISHES:
        raise UsageError(f"there is no finish {finish!r}", code="usage", hint="choose " + ", ".join(FINISHES))
    _within(strength, "strength")
    photo = as_photo(photo)
    loaded = catalog.load(model, device, verb="makeup")
    chosen = _pointed(photo, faces, face, device)
    settings = {"finish": finish, **({"shade": shade} if finish == "tint" else {}), "strength": float(strength), "face": face}
    with loaded.inference():
        pixels: np.ndarray = loaded.recipe.makeup(loaded.nets, photo, chosen, finish=finish, shade=shade, strength=strength)
    return photo.edited(pixels, Step("makeup", loaded.system.name, loaded.card.sha256[:12], settings))


def classify(
    photo: PhotoLike, *, model: str = "cifar-best", top: int = 5, pad: bool = False, device: str = "auto"
) -> tuple[tuple[str, float], ...]:
    """Say what a photo shows, as one of the classes the network has learnt: it knows no others and always names some.

    photo   Photo, path, or uint8 array [H, W, 3]; looked at as 32 x 32 pixels
    model   name of a classifier, or the path of its weights file or run folder
    top     how many classes, at least 1
    pad     look at the whole photo on a ground of its mean colour instead of at the square in its middle
    device  "auto", "cpu" or "cuda"

    Returns (class, probability), the likeliest first. Errors as `detect`.

    >>> visagist.classify("pet.jpg", top=2)
    (('cat', 0.87), ('dog', 0.05))
    """
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise UsageError(f"top is {top!r}", code="usage", hint="it is a whole number from 1")
    loaded = catalog.load(model, device, verb="classify")
    with loaded.inference():
        found: tuple[tuple[str, float], ...] = loaded.recipe.classify(loaded.nets, as_photo(photo), pad=pad)
    return found[:top]


def stylize(
    photo: PhotoLike,
    style: PhotoLike | Sequence[PhotoLike] = (),
    *,
    model: str | None = None,
    features: str = "perceptual",
    size: int = 512,
    colour: Literal["style", "keep", "match"] = "style",
    shares: Sequence[float] = (),
    faces: Sequence[Face] | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[Any], bool | None] | None = None,
    **settings: Any,
) -> Photo:
    """Repaint a photo in the manner of a painting.

    photo     Photo, path, or uint8 array [H, W, 3]
    style     a picture as photo is, several of them, or the name of a painting (`catalog.PAINTINGS`); a file wins over a name
    model     "gatys": any style, minutes; "fast-style" or a weights file: one style, at once. Default: by what `style` is
    features  for gatys: "perceptual", or the feature network a user brought, by name (vgg19) or path
    size      longer side of the result in pixels, 0 for the photo's own
    colour    "keep" keeps the photo's, "match" (gatys) recolours the style like the photo first
    shares    for several styles: how much of each
    faces     which faces to keep more of; default: all that `landmarks` finds, where the setting `guard` (0.6) is not 0
    seed      of the noise of `init="noise"`
    progress  for gatys: is told after every iteration (`stylize.gatys.Progress`); True ends the run there
    settings  `guard`; for gatys any field of `stylize.gatys.Gatys`, and `preset`: "default", "seed" or "demo"

    Returns the painting with the step added to its history. Ctrl-C ends a gatys run early with what there is so far. PhotoError
    "too-large" says which size would fit into memory; other errors as `detect`.

    >>> visagist.stylize("me.jpg", "starry-night").save("me.stylize.jpg")
    """
    photo = as_photo(photo)
    styles = list(style) if isinstance(style, Sequence) and not isinstance(style, str) else [style]
    model = ("fast-style" if len(styles) == 1 and catalog.painting(styles[0]) else "gatys") if model is None else model
    asked = {"size": size, "colour": colour, **settings}
    if model != "gatys":
        more = {"shares": shares, "features": features if features != "perceptual" else None}
        return _painted_at_once(photo, styles, model, device, faces, asked | {name: value for name, value in more.items() if value})
    return _optimised(photo, styles, features, device, faces, asked, {"shares": shares, "seed": seed, "progress": progress})


def _optimised(
    photo: Photo,
    styles: Sequence[PhotoLike],
    features: str,
    device: str,
    faces: Sequence[Face] | None,
    settings: Mapping[str, Any],
    run: Mapping[str, Any],
) -> Photo:
    """`stylize` by gatys."""
    recipe: Any = catalog.recipe("gatys", **settings)  # `preset` among the settings is the parameter of this name
    if not styles:
        raise UsageError("no style is given", code="usage", hint="name a picture or one of " + ", ".join(catalog.PAINTINGS))
    pictures = [as_photo(catalog.painting(one) or one).on_white() for one in styles]
    loaded = catalog.features(features, device)
    faces = landmarks(photo, device=device) if faces is None and recipe.guard else faces or ()
    more = {"faces": faces, "half": loaded.half, "available": loaded.available, **run}
    pixels: np.ndarray = recipe.stylize(loaded.nets, photo, pictures, **more)
    seed = {"seed": run["seed"]} if recipe.init == "noise" else {}
    told = {"features": loaded.system.name, "style": _names(styles), **settings, **seed}
    return photo.edited(pixels, Step("stylize", "gatys", loaded.card.sha256[:12], _scalars(told)))


def _painted_at_once(
    photo: Photo, styles: Sequence[PhotoLike], model: str, device: str, faces: Sequence[Face] | None, asked: Mapping[str, Any]
) -> Photo:
    """`stylize` by a network that paints in one way: the one of this model, or of the painting of this name."""
    if other := [name for name in asked if name not in ("size", "colour", "guard")]:
        raise UsageError(f"{other[0]} is a setting of gatys", code="usage", hint="leave it out, or choose the model gatys")
    if model == "fast-style":
        if len(styles) != 1 or not isinstance(styles[0], str) or styles[0] not in catalog.PAINTINGS:
            hint = f"it paints like {', '.join(catalog.PAINTINGS)}; gatys takes any picture, `visagist train fast-style` learns one"
            raise UsageError("fast-style needs the name of a painting", code="usage", hint=hint)
        model = f"fast-style-{styles[0]}"
    loaded = catalog.load(model, device, verb="stylize")
    if "painter" not in loaded.nets:
        raise UsageError(f"{model[:80]} is {loaded.system.name}, which does not paint", code="wrong-verb", hint="choose gatys")
    faces = landmarks(photo, device=device) if faces is None and asked.get("guard", 0.6) else faces or ()
    with loaded.inference():
        pixels: np.ndarray = loaded.recipe.stylize(loaded.nets, photo, faces=faces, available=loaded.available, **asked)
    settings = _scalars({"style": _names(styles), **asked})
    return photo.edited(pixels, Step("stylize", loaded.system.name, loaded.card.sha256[:12], settings))


def rotate(
    photo: PhotoLike,
    *,
    yaw: float | None = None,
    pitch: float | None = None,
    roll: float | None = None,
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
    expression: Mapping[str, float] | None = None,
    background: str = "mesh",
    light: tuple[float, float] | None = None,
    face: int | str = "all",
    faces: Sequence[Face] | None = None,
    reliefs: Sequence[Any] = (),
    model: str = "morphable",
    device: str = "auto",
    **settings: Any,
) -> Photo:
    """Turn the heads of the faces in a photo, and the picture around them along with them; or put them in another light.

    photo       Photo, path, or uint8 array [H, W, 3]
    yaw, pitch, roll  degrees to turn to; yaw > 0: nose to the picture's right, pitch > 0: chin up, roll > 0: tipped clockwise as
                seen; None keeps the photo's
    turn        degrees of yaw, pitch and roll to turn by, instead; (0, 0, 0) gives the photo back
    expression  names and weights (about 0..1) of expressions to add: {"mouthSmile": 0.6}
    background  "mesh": hair, neck and what is behind move along; "keep": the face is laid over the photo; "plain": over grey
    light       azimuth and elevation of a lamp in degrees: (90, 0) is at the picture's right, (0, 90) above; means "shading"
    face        "all", "largest", or a number from 1 by falling area
    faces       faces found before, with or without points, instead of looking for them; `face` then counts these
    model       "morphable", or the path of its weights file or run folder; "shading": with the relief that shading tells
    device      "auto", "cpu" or "cuda"
    reliefs, settings  for shading: what `relief` told of these faces before; as there. Else skin="own": no learnt colours for skin
                that the photo hides

    Returns the photo, same size, with the step added to its history; believable to about 30 degrees from the photo's pose.
    FaceError "no-face", "no-such-face", "no-fit" where the points make no head, "too-far"; other errors as `detect`, `relief`.

    >>> visagist.rotate("me.jpg", yaw=-20).save("me.rotate.jpg")
    >>> visagist.rotate("me.jpg", light=(60, 20)).save("me.lit.jpg")
    """
    _check_turn((yaw, pitch, roll), turn, [*(expression or {}).values(), *(light or ())])
    asked: dict[str, Any] = {"pose": (yaw, pitch, roll), "turn": tuple(turn), "expression": dict(expression or {})}
    who: dict[str, Any] = {"faces": faces, "face": face, "device": device}
    if light is not None or model == "shading":
        return _shaded(as_photo(photo), who, reliefs, background, {**asked, "light": light}, settings)
    return _turned(as_photo(photo), who, model, background, asked, settings)


def _turned(photo: Photo, who: Settings, model: str, background: str, asked: Settings, settings: Settings) -> Photo:
    """`rotate` with the morphable model alone."""
    if other := [name for name in settings if name != "skin" or settings[name] not in ("learnt", "own")]:
        raise UsageError(f"{other[0]} is a setting of shading", code="usage", hint='add model="shading"; skin is "learnt" or "own"')
    loaded = catalog.load(model, who["device"], verb="rotate")
    faces, asked = _pointed(photo, **who), {**asked, **({} if background == "mesh" else {"background": background})}
    learnt: Any = None if settings.get("skin") == "own" else catalog.load("texture", who["device"])
    with loaded.inference():
        skin = None if learnt is None else learnt.nets["skin"].texture()
        pixels: np.ndarray = loaded.recipe.rotate(loaded.nets, photo, faces, skin=skin, **asked)
    asked |= {"face": who["face"], "texture": None if learnt is None else learnt.card.sha256[:12]}
    return photo.edited(pixels, Step("rotate", loaded.system.name, loaded.card.sha256[:12], _posed(asked)))


def _shaded(photo: Photo, who: Settings, reliefs: Sequence[Any], background: str, asked: Settings, settings: Settings) -> Photo:
    """`rotate` with the relief of each face."""
    if background != "mesh":
        raise UsageError("with shading the background moves along", code="usage", hint='leave "background" out')
    reliefs = reliefs or relief(photo, **who, **settings)
    recipe: Any = catalog.recipe("shading")
    loaded = catalog.load("morphable", who["device"])
    with loaded.inference():
        pixels: np.ndarray = recipe.rotate(loaded.nets, photo, turner=loaded.recipe, reliefs=reliefs, **asked)
    told = {name: _names([value]) if name == "known_albedo" else value for name, value in settings.items() if value is not None}
    return photo.edited(pixels, Step("rotate", "shading", loaded.card.sha256[:12], _posed({**asked, **told})))


def _posed(asked: Settings) -> dict[str, str | int | float | bool | None]:
    """What `rotate` was asked for as metadata hold it."""
    return _scalars({**dict(zip(("yaw", "pitch", "roll"), asked["pose"])), **{k: v for k, v in asked.items() if k != "pose"}})


def relief(
    photo: PhotoLike, *, face: int | str = "all", faces: Sequence[Face] | None = None, device: str = "auto", **settings: Any
) -> tuple[Any, ...]:
    """Tell depth, normals, light and albedo of faces from their shading: a `rotate.relief.Relief` for each.

    settings are fields of `rotate.shading.Shading` (reference, order, smooth and so on), and known_albedo, a picture as photo is
    and of its size: how bright the skin is without light, black where nobody knows. The rest and errors as `rotate`, and FaceError
    "no-shading" where a face is dark, burnt out or equally bright everywhere, "too-small", "no-albedo" where the known albedo is
    black, UsageError "bad-albedo" for one of another size.
    """
    photo, known = as_photo(photo), settings.pop("known_albedo", None)
    recipe: Any = catalog.recipe("shading", **settings)
    albedo = None if known is None else as_photo(known).pixels
    loaded, whole = (catalog.load(name, device) for name in ("morphable", "morphable-head"))
    chosen, bust = _pointed(photo, faces, face, device), whole.recipe.model(whole.nets)
    with loaded.inference():
        found: tuple[Any, ...] = recipe.reliefs(loaded.nets, photo, chosen, turner=loaded.recipe, known=albedo, bust=bust)
    return found


def identify(
    photo: PhotoLike, faces: Sequence[Face] | None = None, *, model: str = "embedding", device: str = "auto"
) -> tuple[Face, ...]:
    """Give faces their `identity`: a vector of unit length that points the same way for pictures of one person.

    photo   Photo, path, or uint8 array [H, W, 3]
    faces   where to look, with or without points; default: what `detect` finds
    model   "embedding", or the path of its weights file or run folder
    device  "auto", "cpu" or "cuda"

    Returns the same faces in the same order, with points and `identity` float32 [D]. Vectors of different weights do not compare.
    Errors as `detect`.

    >>> a, b = (visagist.identify(name)[0].identity for name in ("one.jpg", "other.jpg"))
    >>> float(a @ b)
    0.61
    """
    photo = as_photo(photo)
    loaded = catalog.load(model, device, verb="recognize")
    found = detect(photo, device=device) if faces is None else tuple(faces)
    found = found if all(f.points is not None for f in found) else landmarks(photo, found, device=device)
    with loaded.inference():
        known: tuple[Face, ...] = loaded.recipe.recognize(loaded.nets, photo, found)
    return known


def recognize(
    photo: PhotoLike,
    other: PhotoLike,
    *,
    face: int | str = "all",
    min_score: float | None = None,
    model: str = "embedding",
    device: str = "auto",
) -> Any:
    """Say whether two photos show the same person.

    photo, other  Photo, path, or uint8 array [H, W, 3]
    face          which faces are compared in both, "all", "largest" or a number from 1 by falling area; the likest pair is told
    min_score     the score that is enough, -1..1; default: the one that told most pairs rightly when the weights were measured
    model, device as `identify`

    Returns a `recognize.likeness.Likeness`: score, threshold, false_accept_rate, same, faces. FaceError "no-face" names the photo;
    UsageError "not-measured" where nothing says which score is enough; other errors as `detect`.

    >>> visagist.recognize("one.jpg", "other.jpg").same
    True
    """
    known = []
    for one in (photo, other):
        seen = as_photo(one)
        try:
            known.append(identify(seen, choose(detect(seen, device=device), face), model=model, device=device))
        except FaceError as error:
            error.path = error.path or (fspath(one) if isinstance(one, str | PathLike) else None)
            raise
    loaded = catalog.load(model, device, verb="recognize")
    return loaded.recipe.scale_of({row.metric: row.value for row in loaded.card.measured}).likeness(*known, min_score)


def as_photo(photo: PhotoLike) -> Photo:
    """The photo itself, the one at this path, or one of these pixels (uint8 [H, W, 3])."""
    if isinstance(photo, Photo):
        return photo
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
            raise UsageError(f"an array {photo.dtype} {list(photo.shape)} is no photo", code="usage", hint="give uint8 [H, W, 3]")
        return Photo.of(photo)
    return Photo.open(fspath(photo))


def _names(styles: Sequence[PhotoLike]) -> str:
    """What the styles are called: names of files without their folders."""
    return ", ".join("array" if isinstance(s, Photo | np.ndarray) else os.path.basename(fspath(s)) for s in styles)


def _scalars(settings: Mapping[str, Any]) -> dict[str, str | int | float | bool | None]:
    """Settings as metadata hold them: anything that is no scalar as text."""
    return {name: value if isinstance(value, str | int | float | None) else str(value) for name, value in settings.items()}


def _pointed(photo: Photo, faces: Sequence[Face] | None, face: int | str, device: str) -> tuple[Face, ...]:
    """The chosen ones of these faces, or of those in the photo, with 68 points."""
    chosen = choose(detect(photo, device=device) if faces is None else faces, face)
    return chosen if all(f.scheme == "ibug68" for f in chosen) else landmarks(photo, chosen, device=device)


def _check_turn(pose: Sequence[float | None], turn: Sequence[float], more: Sequence[float]) -> None:
    given = [angle for angle in pose if angle is not None]
    if not np.isfinite([*given, *turn, *more]).all() or len(turn) != 3 or (given and any(turn)):
        hint = "give yaw, pitch or roll to turn to, or three finite degrees to turn by"
        raise UsageError("the angles make no sense together", code="usage", hint=hint)


def _within(value: float, name: str) -> None:
    if not 0 <= value <= 1:  # also refuses NaN
        raise UsageError(f"{name} is {value}", code="usage", hint="it lies between 0 and 1")
