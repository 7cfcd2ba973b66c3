"""`visagist recognize`: is it the same person, and who of a gallery is it?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visagist.apps.options import (
    MAX_PIXELS,
    Device,
    DeviceOption,
    FaceOption,
    Json,
    MaxPixels,
    OutCopy,
    Overwrite,
    Photos,
    Quiet,
    Seed,
)
from visagist.errors import UsageError, VisagistError

if TYPE_CHECKING:
    from visagist.apps.batch import Job
    from visagist.apps.report import Report
    from visagist.apps.verbs import Options
    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

Known = tuple["Face", ...]


def recognize(
    photos: Photos,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", metavar="FOLDER", help="Say who it is: a folder for each person, or a photo named after each."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score", min=-1, max=1, help="Score that is enough. Default: what told most pairs rightly when measured."
        ),
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(
            "--far", metavar="RATE", help="Instead of --min-score: the score that so many pairs of strangers reach, such as 0.01."
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="With --gallery: how many people to name.")] = 3,
    index: Annotated[
        str | None, typer.Option("--index", metavar="FILE", help="With --gallery: its index. Default: a file in the folder.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", help="embedding, or its weights file or run folder.")
    ] = "embedding",
    out: OutCopy = None,
    json: Json = False,
    face: FaceOption = "all",
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """Say whether photos show the same person, or who of a gallery they show."""
    from visagist import catalog
    from visagist.apps import batch, verbs

    options = verbs.Options(photos, out, json, quiet, overwrite, max_pixels)
    loaded = catalog.load(model, device.value, verb="recognize")
    scale = loaded.recipe.scale_of({row.metric: row.value for row in loaded.card.measured})
    min_score = _enough(scale, min_score, far, str(loaded.file))
    if gallery is not None:
        return _search(options, gallery, index, scale, min_score, top, face, model, device.value)
    if index is not None:
        raise UsageError("--index is of a gallery", code="usage", hint="add --gallery FOLDER")
    jobs, marked = batch.collect(photos)
    if len(jobs) < 2:
        what = "one photo alone shows nobody else" if jobs else "there is no photo to compare"
        left = f" ({marked} made by visagist left out)" if marked else ""
        raise UsageError(what + left, code="usage", hint="name two photos, or add --gallery FOLDER")
    return _compare(options, scale, min_score, face, model, device.value)


def _enough(scale: Any, min_score: float | None, far: float | None, file: str) -> float:
    """The score that is enough. UsageError where the weights of this file tell none."""
    if far is not None and min_score is not None:
        raise UsageError("--far and --min-score both say which score is enough", code="usage", hint="give one of them")
    try:
        return float(scale.enough(min_score) if far is None else scale.at_rate(far))
    except UsageError as error:
        if error.code == "not-measured":
            error.path, error.hint = file, "give --min-score" if far is None else f"{error.hint}, or give --min-score"
        raise


def _known(job: Job, options: Options, face: int | str, model: str, device: str) -> tuple[Any, Known]:
    """The photo and its chosen faces with identity. FaceError where there is none."""
    from visagist import api
    from visagist.apps import verbs

    photo = verbs._open(job, options)
    return photo, api.identify(photo, api.choose(api.detect(photo, device=device), face), model=model, device=device)


def _compare(options: Options, scale: Any, threshold: float, face: int | str, model: str, device: str) -> int:
    """Every photo with every later one. Returns the exit code."""
    from visagist.apps import batch, verbs
    from visagist.apps.batch import Tally
    from visagist.apps.report import Report, printable

    jobs, marked = batch.collect(options.photos)
    if options.out is not None:
        jobs = batch.plan(jobs, "recognize", options.photos, out=options.out, overwrite=options.overwrite)
    tally, known, errors = Tally(marked=marked), {}, {}
    order = {id(job): number for number, job in enumerate(jobs)}
    report: Report

    def do(job: Job) -> Known:
        report.begins(job)
        photo, faces = _known(job, options, face, model, device)
        if job.out is not None:
            batch.make_room(job.out)
            verbs._write_drawn(photo, dict(enumerate(faces, 1)), job, options, "recognize", model, device, {})
        return faces

    def done(job: Job, faces: Known) -> None:
        known[order[id(job)]] = faces
        report.ends()

    def failed(job: Job, error: VisagistError) -> None:
        errors[order[id(job)]] = {"code": error.code, "message": str(error)}
        report.failed(error)
        report.ends()

    def broken(job: Job, error: Exception) -> None:
        errors[order[id(job)]] = {"code": "internal", "message": f"{type(error).__name__}: {error}"}
        report.broken(job.name, error)
        report.ends()

    width = min(40, max(len(printable(job.name)) for job in jobs))
    columns = {"and": width, "score": 6, "threshold": 9, "same person": 11, "false accepts": 0}
    with Report(jobs, json=options.json, quiet=options.quiet, columns=columns, noun="looked at") as report:
        batch.work_through(jobs, do, done=done, failed=failed, broken=broken, tally=tally)
        for a, b in combinations(range(len(jobs)), 2):
            record: dict[str, Any] = {"a": jobs[a].name, "b": jobs[b].name, "score": None, "threshold": round(threshold, 4)}
            record |= {"false_accept_rate": None, "false_reject_rate": None, "same": None, "faces": None}
            record["error"] = errors.get(a) or errors.get(b)
            if a in known and b in known:
                found = scale.likeness(known[a], known[b], threshold)
                which = [
                    [one is f for f in faces].index(True) + 1 for one, faces in zip(found.faces, (known[a], known[b]), strict=True)
                ]
                record |= {"score": round(found.score, 4), "same": found.same, "faces": which}
                record["false_accept_rate"] = _rounded(found.false_accept_rate)
                record["false_reject_rate"] = _rounded(found.false_reject_rate)
                cells = [
                    f"{found.score:.3f}",
                    f"{found.threshold:.3f}",
                    "yes" if found.same else "no",
                    _told(found.false_accept_rate, found.false_reject_rate),
                ]
                report.row(jobs[a].name, printable(jobs[b].name), *cells)
            report.record(record)
    report.summary(tally)
    return tally.exit_code


def _search(
    options: Options,
    folder: str,
    index: str | None,
    scale: Any,
    threshold: float,
    top: int,
    face: int | str,
    model: str,
    device: str,
) -> int:
    """The people of a gallery most like each face of each photo. Returns the exit code."""
    from visagist import api, catalog
    from visagist.apps import gallery, verbs
    from visagist.apps.report import complain, waiting
    from visagist.photo.photo import Photo

    loaded = catalog.load(model, device, verb="recognize")
    jobs, _ = verbs.jobs_of(options, "recognize")

    def known(path: str) -> Any:
        photo = Photo.open(path, max_pixels=options.max_pixels)
        largest = api.choose(api.detect(photo, device=device), "largest")
        return api.identify(photo, largest, model=model, device=device)[0].identity

    with waiting(f"looking at {folder}", options.quiet):
        people = gallery.open_gallery(
            folder,
            known,
            weights=loaded.card.sha256,
            dimensions=loaded.recipe.length,
            index=index,
            jobs=jobs,
            overwrite=options.overwrite,
            failed=complain,
        )
    rate, missed = scale.rate(threshold, len(people.names)), scale.missing(threshold)
    said = f"{threshold:.3f} is enough: " + _told(rate, missed, f"strangers are taken for one of {len(people.names)} people")

    def opened(report: Report) -> None:
        for text in (*people.remarks, said):
            report.remarks(folder, text)

    more = {"threshold": round(threshold, 4), "false_accept_rate": _rounded(rate), "false_reject_rate": _rounded(missed)}

    def do(job: Job) -> dict[str, Any]:
        photo, faces = _known(job, options, face, model, device)
        numbered = dict(enumerate(faces, 1))
        record = verbs._record(job, photo, numbered)
        for one, told in zip(faces, record["faces"], strict=True):
            assert one.identity is not None
            told["matches"] = people.nearest(one.identity, top)
            best = told["matches"][0]
            told["person"] = best["person"] if best["score"] >= threshold else None
        _write_named(photo, faces, [told["person"] or "" for told in record["faces"]], job, options, loaded, threshold)
        return {**record, **more}

    def cells(record: dict[str, Any]) -> list[list[str]]:
        rows = []
        for one in record["faces"]:
            for match in one["matches"]:
                enough = "yes" if match["score"] >= threshold else "no"
                rows.append([str(one["index"]), match["person"], f"{match['score']:.3f}", enough, match["photo"]])
        return rows

    columns = {
        "face": 4,
        "person": min(30, max(6, *(len(name) for name in people.names))),
        "score": 6,
        "enough": 6,
        "likest photo": 0,
    }
    return verbs._through(options, "recognize", do, columns, cells, "looked at", more=more, opened=opened)


def _write_named(
    photo: Photo, faces: Known, names: Sequence[str], job: Job, options: Options, loaded: Any, threshold: float
) -> None:
    """Write a copy with the names under the faces, where that was asked for and is not there yet."""
    from visagist.apps import batch
    from visagist.photo import draw
    from visagist.photo.photo import Step

    if job.out is None or batch.is_there(job, options.overwrite):
        return
    step = Step("recognize", loaded.system.name, loaded.card.sha256[:12], {"threshold": round(threshold, 4)})
    pixels = draw.names_on(photo.pixels, faces, names)
    photo.edited(pixels, step).save(job.out, overwrite=options.overwrite or job.in_place)


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)


def _told(rate: float | None, missed: float | None, who: str = "pairs of different people reach the threshold") -> str:
    """How often the threshold is wrong, in words."""
    if rate is None:
        return "not measured"
    return f"{rate:.2%} of {who}" + ("" if missed is None else f", {missed:.0%} of pairs of one person do not reach it")
