"""The verbs that work through photos: open, ask the waist, print and write. One function per verb; `_through` is the batch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visagist.apps import batch
from visagist.apps.batch import Job, Tally
from visagist.apps.process import Memory
from visagist.apps.report import Report, printable
from visagist.errors import OutputError, UsageError, VisagistError

if TYPE_CHECKING:
    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

Record = dict[str, Any]
Answer = tuple[tuple[str, float], ...]  # classes and probabilities, the likeliest first
FaceChoice = int | str  # "all", "largest", or a number from 1


@dataclass(frozen=True)
class Options:
    """What all verbs of photos share. `edits`: the verb always writes a result; otherwise only where `out` is given, or where a
    drawing was asked for (`draws`)."""

    photos: Sequence[str]
    out: str | None
    json: bool
    quiet: bool
    overwrite: bool
    max_pixels: int
    in_place: bool = False
    edits: bool = False
    csv: bool = False
    draws: bool = False


FACE_COLUMNS = {"face": 4, "label": 6, "score": 5, "left": 8, "top": 8, "width": 8, "height": 8}


def detect(options: Options, *, model: str, min_score: float, face: FaceChoice, device: str) -> int:
    """Print the boxes of faces; with `out` also write copies with the boxes drawn. Returns the exit code."""
    from visagist import api

    def do(job: Job) -> Record:
        photo = _open(job, options)
        numbered = _chosen(api.detect(photo, model=model, min_score=min_score, device=device), face)
        _write_drawn(photo, numbered, job, options, "detect", model, device, {"min_score": min_score})
        return _record(job, photo, numbered)

    return _through(options, "detect", do, FACE_COLUMNS, _face_cells, "searched")


def landmarks(options: Options, *, model: str, face: FaceChoice, device: str) -> int:
    """Print boxes, points and pose of faces; with `out` also write copies with the points drawn. Returns the exit code."""
    from visagist import api

    def do(job: Job) -> Record:
        photo = _open(job, options)
        numbered = _chosen(api.detect(photo, device=device), face)
        found = api.landmarks(photo, tuple(numbered.values()), model=model, device=device)
        numbered = dict(zip(numbered, found, strict=True))
        _write_drawn(photo, numbered, job, options, "landmarks", model, device, {})
        return _record(job, photo, numbered)

    if options.json and options.csv:
        raise UsageError("--json and --csv are two ways to say the same", code="usage", hint="choose one")
    columns = {**FACE_COLUMNS, "points": 9, "yaw": 5, "pitch": 5, "roll": 5}
    cells = _csv_cells if options.csv else _landmark_cells
    return _through(options, "landmarks", do, columns, cells, "searched", headings=_csv_headings)


def makeup(options: Options, *, finish: str, shade: str, strength: float, face: FaceChoice, device: str) -> int:
    """Paint lips and write the result. Returns the exit code."""
    from visagist import api

    def do(job: Job) -> Record:
        assert job.out is not None
        photo = _open(job, options)
        faces = api.landmarks(photo, api.detect(photo, device=device), device=device)
        painted = api.makeup(
            photo,
            finish=finish,  # type: ignore[arg-type]  # the command line has checked it
            shade=shade,
            strength=strength,
            face=face,
            faces=faces,
            device=device,
        )
        painted.save(job.out, overwrite=options.overwrite or job.in_place)
        return _record(job, photo, dict(enumerate(faces, 1)))

    def cells(record: Record) -> list[list[str]]:
        return [[str(len(record["faces"])), printable(record["out"])]]

    return _through(options, "makeup", do, {"faces": 5, "result": 0}, cells, "painted")


def classify(options: Options, *, model: str, top: int, pad: bool, explain: bool, device: str) -> int:
    """Print the likeliest classes; with `out` or `explain` also write copies with bars under them. Returns the exit code."""
    from visagist import catalog
    from visagist.apps.ahead import Ahead

    ahead: list[Ahead[Answer]] = []

    def answer(photos: Sequence[Photo]) -> Sequence[Answer]:
        loaded = catalog.load(model, device, verb="classify")
        with loaded.inference():
            found: Sequence[Answer] = loaded.recipe.classify_all(loaded.nets, photos, pad=pad)
        return [classes[:top] for classes in found]

    def do(job: Job) -> Record:
        photo, found = ahead[0].take(job)
        if job.out is not None and not batch.is_there(job, options.overwrite):
            _write_answer(photo, found, job, options, model, device, pad, explain)
        return {**_record(job, photo, {}), "classes": [{"label": label, "score": round(score, 6)} for label, score in found]}

    def cells(record: Record) -> list[list[str]]:
        if options.csv:
            return [[v for one in record["classes"] for v in (one["label"], f"{one['score']:.6f}")]]
        return [[one["label"], f"{one['score']:.3f}", _bar(one["score"])] for one in record["classes"]]

    def headings(record: Record) -> list[str]:
        return ["photo", *(name for i in range(1, len(record["classes"]) + 1) for name in (f"class{i}", f"score{i}"))]

    if options.json and options.csv:
        raise UsageError("--json and --csv are two ways to say the same", code="usage", hint="choose one")
    columns = {"class": 12, "score": 5, "": 0}

    def planned(jobs: Sequence[Job]) -> None:
        ahead.append(Ahead(jobs, lambda job: _open(job, options), answer))

    more: Record = {"classes": []}
    return _through(options, "classify", do, columns, cells, "classified", headings=headings, more=more, planned=planned)


def _bar(share: float, width: int = 24) -> str:
    """A bar of text, in eighths of a character where the output can say them."""
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return "#" * round(share * width)
    whole, part = divmod(round(share * width * 8), 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")


def _write_answer(
    photo: Photo,
    found: Sequence[tuple[str, float]],
    job: Job,
    options: Options,
    model: str,
    device: str,
    pad: bool,
    explain: bool,
) -> None:
    """Write a copy with bars under it and, to explain, with what did not matter made dark."""
    from visagist import catalog
    from visagist.photo import chart
    from visagist.photo.photo import Step

    assert job.out is not None
    loaded = catalog.load(model, device, verb="classify")
    pixels = photo.pixels
    if explain:
        with loaded.inference():
            pixels = chart.lit(pixels, loaded.recipe.explain(loaded.nets, photo, pad=pad))
    step = Step("classify", loaded.system.name, loaded.card.sha256[:12], {"pad": pad, "explain": explain})
    try:
        photo.edited(chart.answered(pixels, found), step).save(job.out, overwrite=options.overwrite or job.in_place)
    except OutputError as error:
        if error.code != "exists":  # another process was quicker with the same copy
            raise


def stylize(
    options: Options,
    *,
    styles: Sequence[str],
    model: str | None,
    features: str,
    face: FaceChoice,
    device: str,
    film: str | None,
    seed: int,
    settings: Mapping[str, Any],
) -> int:
    """Repaint photos and write the results, each with a sidecar. Returns the exit code.

    settings  of the run, those that were given: size, colour, shares, preset and fields of `stylize.gatys.Gatys`
    """
    from visagist import api
    from visagist.apps import beside, repaint
    from visagist.photo.film import Film

    reports: list[Report] = []

    def do(job: Job) -> Record:
        assert job.out is not None
        replaces = options.overwrite or job.in_place
        repaint.check_sidecar(job.out, replaces)
        moving = None if film is None else Film(film, overwrite=options.overwrite)
        photo = _open(job, options)
        chosen = None if face == "all" else api.landmarks(photo, api.choose(api.detect(photo, device=device), face), device=device)
        if settings.get("init") == "noise" and features == "perceptual":
            reports[0].remarks(job.name, repaint.FROM_NOISE)
        watch, began = repaint.Watch(reports[0].tells, moving), time.monotonic()
        painted = api.stylize(
            photo, list(styles), model=model, features=features, faces=chosen, seed=seed, device=device, progress=watch, **settings
        )
        watch.seconds = time.monotonic() - began
        painted.save(job.out, overwrite=replaces)
        facts = {"settings": repaint.all_settings(painted, settings), "weights": repaint.identity(painted, styles, model, features)}
        sidecar = repaint.write_sidecar(job.out, job.name, painted, styles, watch, **facts)
        if moving is not None:
            moving.save(painted.history[-1:])
        if watch.stopped:  # the picture is kept, the rest of the batch is not worked on
            raise KeyboardInterrupt
        return {**_record(job, photo, {}), "sidecar": sidecar, "seconds": round(watch.seconds, 2), "loss": watch.loss}

    def cells(record: Record) -> list[list[str]]:
        return [[f"{record['seconds']:.1f}", "" if record["loss"] is None else f"{record['loss']:.4g}", printable(record["out"])]]

    if film is not None and len(batch.collect(options.photos)[0]) > 1:
        raise UsageError("a film shows one photo", code="usage", hint="leave --film out, or name one photo")
    if film is not None and repaint.at_once(model, styles):
        raise UsageError("film is a setting of gatys", code="usage", hint="leave it out, or choose the model gatys")

    def planned(jobs: Sequence[Job]) -> None:
        repaint.check_networks(model, styles, features)
        beside.guard(jobs, {} if film is None else {"film": [film]}, read=[*styles])

    more = {"sidecar": None, "seconds": None, "loss": None}
    columns = {"seconds": 7, "loss": 9, "result": 0}
    return _through(options, "stylize", do, columns, cells, "painted", more=more, opened=reports.append, planned=planned)


def jobs_of(options: Options, verb: str) -> tuple[list[Job], int]:
    """The photos of a command with the places of their results, and how many of our own were left out."""
    writes = options.edits or options.draws or options.out is not None
    where = options.out, options.in_place, options.overwrite
    return batch.gather(options.photos, verb, *where) if writes else batch.collect(options.photos)


def _through(
    options: Options,
    verb: str,
    do: Callable[[Job], Record],
    columns: Mapping[str, int],
    cells: Callable[[Record], list[list[str]]],
    noun: str,
    headings: Callable[[Record], list[str]] | None = None,
    more: Record | None = None,
    opened: Callable[[Report], None] | None = None,
    planned: Callable[[Sequence[Job]], None] | None = None,
) -> int:
    """Work through the photos of a command: find them, plan the results, do one after the other, say what happened.

    headings  of a csv, from the first record that has rows; no names where it has none
    more      what the records of failed and skipped photos have besides the common fields
    opened    is handed the report before the first photo
    planned   is handed the photos in the order in which they are worked on
    """
    jobs, marked = jobs_of(options, verb)
    if planned is not None:
        planned(jobs)
    tally = Tally(marked=marked)
    memory = Memory()

    def do_unless_there(job: Job) -> Record | None:
        report.begins(job)
        memory.give_back()
        if options.edits and batch.is_there(job, options.overwrite):
            return None
        if job.out is not None and not batch.is_there(job, options.overwrite):
            batch.make_room(job.out)
        return do(job)

    def done(job: Job, record: Record | None) -> None:
        if record is None:
            record = _record(job, None, {}) | (more or {})
            record["skipped"] = True
        elif options.edits:
            record["skipped"] = False
        if options.edits:
            record["out"] = job.out
        report.record(record)
        if not record.get("skipped"):
            if headings is not None and (names := headings(record)):
                report.headings(names)
            for row in cells(record):
                report.row(job.name, *row)
        report.ends()

    def failed(job: Job, error: VisagistError, code: str | None = None) -> None:
        record = _record(job, None, {}) | (more or {})
        record["error"] = {"code": code or error.code, "message": str(error)}
        if options.edits:
            record |= {"out": None, "skipped": False}
        report.record(record)
        report.failed(error)
        report.ends()

    def broken(job: Job, error: Exception) -> None:
        record = _record(job, None, {}) | (more or {})
        record["error"] = {"code": "internal", "message": f"{type(error).__name__}: {error}"}
        if options.edits:
            record |= {"out": None, "skipped": False}
        report.record(record)
        report.broken(job.name, error)
        report.ends()

    with Report(jobs, json=options.json, quiet=options.quiet, columns=columns, noun=noun, csv=options.csv) as report:
        if opened is not None:
            opened(report)
        batch.work_through(jobs, do_unless_there, done=done, failed=failed, broken=broken, tally=tally)
    report.summary(tally)
    return tally.exit_code


def _open(job: Job, options: Options) -> Photo:
    from visagist.photo.photo import Photo

    return Photo.open(job.name, max_pixels=options.max_pixels)


def _chosen(faces: Sequence[Face], face: FaceChoice) -> dict[int, Face]:
    """The faces meant, by their number. No face at all is an answer here, not a failure."""
    from visagist import api

    if not faces and not isinstance(face, int):
        return {}
    chosen = api.choose(faces, face)
    return {number: one for number, one in enumerate(faces, 1) if any(one is c for c in chosen)}


def _write_drawn(
    photo: Photo,
    numbered: Mapping[int, Face],
    job: Job,
    options: Options,
    verb: str,
    model: str,
    device: str,
    settings: Mapping[str, Any],
) -> None:
    """Write a copy with the faces drawn on it, where that was asked for and is not there yet."""
    if job.out is None or batch.is_there(job, options.overwrite):
        return
    from visagist import catalog
    from visagist.photo import draw
    from visagist.photo.photo import Step

    loaded = catalog.load(model, device, verb=verb)
    every = list(numbered) == list(range(1, len(numbered) + 1))  # the drawing counts from 1 by itself
    pixels = draw.faces_on(photo.pixels, tuple(numbered.values()), numbers=every)
    step = Step(verb, loaded.system.name, loaded.card.sha256[:12], dict(settings))
    try:
        photo.edited(pixels, step).save(job.out, overwrite=options.overwrite or job.in_place)
    except OutputError as error:
        if error.code != "exists":  # another process was quicker with the same copy
            raise


def _record(job: Job, photo: Photo | None, numbered: Mapping[int, Face]) -> Record:
    """What JSON says of a photo; of one that failed, without a photo."""
    return {
        "photo": job.name,
        "size": None if photo is None else list(photo.size),
        "faces": [face.as_dict(number) for number, face in numbered.items()],
        "error": None,
    }


def _face_cells(record: Record) -> list[list[str]]:
    rows = []
    for face in record["faces"]:
        x0, y0, x1, y1 = face["box"]
        places = [f"{v:.1f}" for v in (x0, y0, x1 - x0, y1 - y0)]
        label = face["label"] + ("?" if "doubt" in face else "")
        rows.append([str(face["index"]), label, f"{face['score']:.2f}", *places])
    return rows or [["none"] + [""] * (len(FACE_COLUMNS) - 1)]


def _csv_headings(record: Record) -> list[str]:
    """The columns of a csv of points, as `train --data` reads them; none for a photo without faces."""
    from visagist.photo.face import POINTS15

    if not record["faces"]:
        return []
    if record["faces"][0]["scheme"] == "kaggle15":
        return ["file", *(f"{name}_{axis}" for name in POINTS15 for axis in "xy"), "face", "score", "doubt"]
    return ["file", *(f"{axis}{i}" for i in range(68) for axis in "xy")]


def _csv_cells(record: Record) -> list[list[str]]:
    """One row a face: its points counted from pixel centres, as in the csv files of data sets."""
    rows = []
    for face in record["faces"]:
        row = [f"{v - 0.5:.2f}" for point in face["points"] for v in point]
        if face["scheme"] == "kaggle15":
            row += [str(face["index"]), f"{face['score']:.4f}", face.get("doubt", "")]
        rows.append(row)
    return rows


def _landmark_cells(record: Record) -> list[list[str]]:
    if not record["faces"]:
        return [["none"] + [""] * (len(FACE_COLUMNS) + 3)]
    rows = _face_cells(record)
    for row, face in zip(rows, record["faces"], strict=True):
        pose = face["pose"]
        row += [face["scheme"] or "none", *("" if pose is None else f"{pose[axis]:.1f}" for axis in ("yaw", "pitch", "roll"))]
    return rows
