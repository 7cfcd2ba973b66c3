"""`visagist augment`: a folder of people several times over: turned, reshaped, with other expressions, in other light."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visagist.apps.options import Device, DeviceOption, Overwrite, Quiet, numbers
from visagist.errors import FaceError, PhotoError, TrainingError, UsageError

if TYPE_CHECKING:
    import numpy as np

Item = Any  # `visagist.recipe.Item`, which the readers give
ROOM = 2.0  # side of the square that is kept about a face, over the longer side of its points
SHOWN = 6  # photos on a contact sheet, and views of each, at most


def augment(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER...", help="A folder for each person, or a set as `train --data` takes it.", show_default=False
        ),
    ],
    out: Annotated[
        str | None, typer.Option("-o", "--out", metavar="FOLDER", help="The new set. Default: FOLDER.augment beside the first.")
    ] = None,
    yaws: Annotated[
        str, typer.Option("--yaws", metavar="A,B,...", callback=numbers, help="Degrees that heads are turned to.")
    ] = "-45,-25,0,25,45",
    shapes: Annotated[int, typer.Option("--shapes", min=0, help="Shapes of heads besides the fitted one.")] = 5,
    expressions: Annotated[
        str,
        typer.Option("--expressions", metavar="A,B,...", help="keep, neutral, smile, open, brows, frown, pucker, squint."),
    ] = "keep,neutral,smile",
    lights: Annotated[int, typer.Option("--lights", min=0, help="Lights besides the picture's own.")] = 2,
    most: Annotated[int, typer.Option("--most", min=1, help="Pictures made of one; drawn from all that are possible.")] = 10,
    furthest: Annotated[float, typer.Option("--furthest", min=0, max=75, help="Degrees that a head is turned at most.")] = 45.0,
    size: Annotated[int, typer.Option("--size", min=32, max=2048, help="Longest side of the pictures, in pixels.")] = 224,
    fold: Annotated[str, typer.Option("--fold", metavar="train|dev|all", help="Which rows, in sets that have folds.")] = "train",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say how many pictures and how many bytes.")] = False,
    sheet: Annotated[
        str | None, typer.Option("--sheet", metavar="FILE", help="Also a picture of a few photos with some of their views.")
    ] = None,
    overwrite: Overwrite = False,
    device: DeviceOption = Device.auto,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same pictures.")] = 0,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Processes that draw; the result is the same.")] = 1,
    quiet: Quiet = False,
) -> int:
    """Multiply pictures of people to learn from, with points that move along."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there; several threads make such small sums slower
    from visagist import catalog
    from visagist.apps.report import complain, counting
    from visagist.training.data.augmented import Folder, source_of

    chosen: Any = yaws  # as `numbers` has read them
    names = tuple(name.strip() for name in expressions.split(","))
    try:
        settings = catalog.recipe_class("embedding").augment(  # type: ignore[attr-defined]
            yaws=chosen, shapes=shapes, expressions=names, lights=lights, most=most, furthest=furthest, seed=seed
        )
    except ValueError as error:
        raise UsageError(str(error), code="usage") from None
    place = Path(out) if out is not None else _beside(folders[0])
    work = Work(settings, size, device.value)
    _guard(folders, place, sheet)
    items = _items(folders, fold)
    if dry_run:
        return _tried(work, items, sheet, overwrite)
    if sheet is not None:
        _write_sheet(work, items, sheet, overwrite)
    target = Folder(place, work.told, overwrite=overwrite)
    left = [(item, stem) for item, stem in items if source_of(item) not in target.done]
    made = failed = 0
    with counting(len(left), quiet) as tell:
        for number, result in enumerate(_results(work, left, target.place, processes), 1):
            if isinstance(result, Failure):
                complain(result.error())
                failed += 1
            else:
                target.add(result)
                made += len(result)
            tell(number)
    if not quiet:
        there = f", {len(target.done)} photos were done before" if target.done else ""
        print(f"{place}: {made} pictures of {len(left) - failed} photos{there}, {failed} failed")
    return 0 if not failed else 1 if failed < len(items) else 3


@dataclass
class Work:
    """What makes the pictures: settings, the longest side, where networks run."""

    settings: Any
    size: int
    device: str

    @property
    def loaded(self) -> Any:
        from visagist import catalog

        return catalog.load("morphable", self.device, verb="rotate")

    @property
    def texture(self) -> Any:
        from visagist import catalog

        return catalog.load("texture", self.device)

    @property
    def weights(self) -> str:
        return str(self.loaded.card.sha256[:12])

    @property
    def told(self) -> dict[str, Any]:
        """What decides how the pictures look."""
        return {**asdict(self.settings), "size": self.size, "weights": self.weights, "texture": str(self.texture.card.sha256[:12])}

    def views(self, item: Item) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """For each variation of an item: what it is, pixels, points [68, 2]. PhotoError, FaceError."""
        pixels, points = self.cut(item)
        from visagist.photo.face import Face

        loaded = self.loaded
        model, found = loaded.recipe.model(loaded.nets), loaded.recipe.fit_face(loaded.nets, Face.of_points(points))
        skin = loaded.recipe.colours(loaded.nets, pixels, found, self.texture.nets["skin"].texture())

        def view(*given: Any) -> Any:
            return loaded.recipe.view(loaded.nets, *given, skin=skin)

        for variation in self.settings.variations(item.name, found.pose.yaw):
            yield variation, *self.settings.rendered(variation, pixels, points, model, found, view)

    def cut(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """The square about the face of an item, at most so large, and the points in it."""
        import numpy as np

        from visagist import api
        from visagist.photo.window import Window

        photo = item.photo
        face = next((face for face in item.faces if face.scheme == "ibug68"), None)
        if face is None:
            (face,) = api.landmarks(photo, api.choose(api.detect(photo, device=self.device), "largest"), device=self.device)
        assert face.points is not None
        low, high = face.points.min(0), face.points.max(0)
        half = ROOM / 2 * float((high - low).max())
        if 2 * half / ROOM < 24:
            raise FaceError("the face is smaller than 24 pixels", code="too-small", path=item.name)
        height, width = photo.size
        x0, y0 = (max(0, int(v)) for v in (low + high) / 2 - half)
        x1, y1 = (min(n, int(v) + 1) for v, n in zip((low + high) / 2 + half, (width, height), strict=True))
        if x1 - x0 < 16 or y1 - y0 < 16:
            raise FaceError("the face lies beyond the picture", code="no-fit", path=item.name)
        scale = min(1.0, self.size / max(x1 - x0, y1 - y0))
        there = max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale))
        window = Window.of_box((x0, y0, x1, y1), there)
        return np.ascontiguousarray(window.cut(photo.pixels)), window.to_window(face.points)


def _beside(folder: str) -> Path:
    """Where the new set goes: FOLDER.augment, also of "." and "..", whose names are those of the folders they mean."""
    named = os.path.normpath(folder)
    return Path((os.path.realpath(folder) if os.path.basename(named) in (".", "..") else named) + ".augment")


def _guard(folders: Sequence[str], place: Path, sheet: str | None) -> None:
    """UsageError for results among the pictures they are made of: read again, the folder would be another set."""
    for what, path in (("the new pictures", place), ("the sheet", sheet)):
        real = None if path is None else Path(os.path.realpath(path))
        if real is not None and any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
            hint = "choose a place outside" + (" with -o" if path is place else "")
            raise UsageError(f"{what} would lie among the old", code="usage", path=path, hint=hint)


def _items(folders: Sequence[str], fold: str) -> list[tuple[Item, str]]:
    """The items, and for each where below the new folder its pictures lie, without ending."""
    from visagist.training.data.augmented import file_name
    from visagist.training.data.readers import read

    try:
        items = read(list(folders), fold=fold, skip_bad=True)
    except TrainingError as error:
        raise UsageError(error.what, code=error.code, path=error.path, hint=error.hint) from error
    used: Counter[str] = Counter()
    named = []
    for item in items:
        stem = f"{file_name(_person(item))}/{file_name(PurePosixPath(item.name).stem)}"
        used[stem] += 1
        named.append((item, stem if used[stem] == 1 else f"{stem}.{used[stem]}"))
    return named


def _person(item: Item) -> str:
    """Who it is: the person, the folder, or where there is neither the picture itself."""
    return str(item.person or item.facts.get("class") or PurePosixPath(item.name).stem)


@dataclass(frozen=True)
class Failure:
    """Why nothing was made of a photo; errors themselves do not travel between processes."""

    what: str
    code: str
    path: str
    hint: str

    def error(self) -> FaceError:
        return FaceError(self.what, code=self.code, path=self.path, hint=self.hint)


Rows = list[tuple[dict[str, Any], "np.ndarray"]]


def _results(work: Work, items: Sequence[tuple[Item, str]], place: Path, processes: int) -> Iterator[Rows | Failure]:
    """What becomes of each item, in their order."""
    given = repeat(work), [item for item, _ in items], [stem for _, stem in items], repeat(place)
    if processes == 1:
        yield from map(_made, *given)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin) as pool:
        yield from pool.map(_made, *given, chunksize=4)


def _begin() -> None:
    """What each of several processes does first: one thread of OpenCV, because those of several would take turns on the same cores.
    NumPy has one in all of them, see `augment`: sums over other numbers of threads are other sums."""
    from visagist.apps import process

    process.settle()
    import cv2

    cv2.setNumThreads(1)


def _made(work: Work, item: Item, stem: str, place: Path) -> Rows | Failure:
    """The rows of what was made of one item."""
    try:
        return _written(work, item, stem, place)
    except (PhotoError, FaceError) as error:
        return Failure(error.what, error.code, error.path or item.name, error.hint)


def _written(work: Work, item: Item, stem: str, place: Path) -> Rows:
    """Write what is made of one item; the rows that tell of it."""
    from visagist.photo.photo import Photo, Step
    from visagist.training.data.augmented import columns_of

    rows: Rows = []
    about = columns_of(item, _person(item))
    (place / stem).parent.mkdir(parents=True, exist_ok=True)
    for variation, pixels, points in work.views(item):
        file = f"{stem}_{variation.name}.jpg"
        step = Step("augment", "morphable", work.weights, {**asdict(variation), "seed": work.settings.seed})
        Photo.of(pixels, "JPEG").edited(pixels, step).save(place / file, overwrite=True)
        height, width = pixels.shape[:2]
        rows.append(({**about, **asdict(variation), "file": file, "width": width, "height": height}, points))
    return [({**cells, "of": len(rows)}, points) for cells, points in rows]


def _tried(work: Work, items: Sequence[tuple[Item, str]], sheet: str | None, overwrite: bool) -> int:
    """Say how much would be made, by what is made of a few photos."""
    with tempfile.TemporaryDirectory() as folder:
        tried = [_made(work, item, stem, Path(folder)) for item, stem in _spread(items)[:SHOWN]]
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.jpg"))
    counts = [len(result) for result in tried if not isinstance(result, Failure)]
    if not counts:
        raise next(result.error() for result in tried if isinstance(result, Failure))
    share = len(counts) / min(SHOWN, len(items))
    pictures = round(len(items) * share * sum(counts) / len(counts))
    print(f"about {pictures} pictures of {len(items)} photos, {pictures * size / sum(counts) / 1e6:.1f} MB; nothing was written")
    if sheet is not None:
        _write_sheet(work, items, sheet, overwrite)
    return 0


def _spread(items: Sequence[tuple[Item, str]]) -> list[tuple[Item, str]]:
    """The items, first some from all over the set: neighbours are often of one person."""
    first = [i * len(items) // SHOWN for i in range(SHOWN)] if len(items) > SHOWN else []
    return [items[i] for i in first] + [item for i, item in enumerate(items) if i not in first]


def _write_sheet(work: Work, items: Sequence[tuple[Item, str]], path: str, overwrite: bool) -> None:
    """A few photos, a row each: the photo, then some of what is made of it."""
    import numpy as np

    from visagist.photo import draw
    from visagist.photo.photo import Photo, Step

    rows: list[list[tuple[Any, str]]] = []
    error: PhotoError | FaceError | None = None
    for item, _ in _spread(items):
        try:
            views = list(work.views(item))
            row = [(work.cut(item)[0], PurePosixPath(item.name).stem)]
        except (PhotoError, FaceError) as failed:
            error = failed
            continue
        count = min(SHOWN, len(views))
        shown = [views[i * len(views) // count] for i in range(count)]
        rows.append(row + [(pixels, variation.name) for variation, pixels, _ in shown])
        if len(rows) == SHOWN:
            break
    if error is not None and not rows:
        raise error
    columns = max(len(row) for row in rows)
    nothing = np.full((8, 8, 3), draw.PAPER, np.uint8), ""
    tiles, captions = zip(*(tile for row in rows for tile in row + [nothing] * (columns - len(row))), strict=True)
    pixels = draw.sheet(tiles, captions, columns=columns, cell=(200, 200))
    Photo.of(pixels).edited(pixels, Step("augment", "morphable", work.weights)).save(path, overwrite=overwrite)
