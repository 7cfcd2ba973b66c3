"""Which photos a command works through, where each result goes, and what one failure means for the rest.

    jobs = batch.collect(["in", "*.jpg"])            # what was named, folders walked, patterns expanded
    jobs = batch.plan(jobs, "makeup", out="out")     # where each result goes; refuses what would clash before work starts
    tally = batch.work_through(jobs, do, ...)        # one failure per photo, never more

No pixels, no torch: photos are looked at here only to tell their format and our own mark.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visagist.errors import FaceError, OutputError, PhotoError, UsageError, VisagistError

PICTURE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dib")


@dataclass(frozen=True)
class Job:
    """One photo of a batch.

    name      as given on the command line, or the given folder and the path below it; what messages and JSON call the photo
    relative  where below an output folder its result belongs
    named     named by the user itself, not met in a folder or by a pattern of ours
    format    what its first bytes say: "JPEG", "PNG", "WEBP", "TIFF", "BMP", or "" if none of these
    error     why it cannot be worked on, known before any work
    out       where its result goes, None if nothing is written
    in_place  the result replaces the photo
    """

    name: str
    relative: str
    named: bool = True
    format: str = ""
    error: VisagistError | None = None
    out: str | None = None
    in_place: bool = False


@dataclass
class Tally:
    """What became of the photos of a batch."""

    done: int = 0
    skipped: int = 0  # the result was there already
    marked: int = 0  # our own pictures, met while walking a folder
    failed: int = 0
    bugs: int = 0  # failures that are our mistake

    @property
    def exit_code(self) -> int:
        """0 done, 1 some photos failed, 3 all failed, 70 our own bug."""
        if self.bugs:
            return 70
        if not self.failed:
            return 0
        return 1 if self.done or self.skipped else 3


def format_of(path: str) -> str:
    """The format that the first bytes of a file tell, "" if it is none of ours or cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return ""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "WEBP"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    return "BMP" if head.startswith(b"BM") else ""


def collect(given: Sequence[str], *, outside: str | None = None) -> tuple[list[Job], int]:
    """The photos meant by files, folders and patterns, in the order given, folders sorted by name.

    outside  a folder that is not walked into: the one results are written to
    Returns the jobs and how many pictures were left out because they carry our own mark and were not named.
    A name that means nothing becomes a job with the error "missing".
    """
    jobs: list[Job] = []
    marked = 0
    for name in given:
        found = list(_meant_by(name, outside))
        kept = [job for job in found if job.error is not None or job.named or not _is_marked(job.name)]
        jobs += kept
        marked += len(found) - len(kept)
    return jobs, marked


def gather(given: Sequence[str], verb: str, out: str | None, in_place: bool, overwrite: bool) -> tuple[list[Job], int]:
    """`collect`, then `plan`; a folder of results that lies in a given one is not walked into, unless it is given itself."""
    folders = {os.path.realpath(name) for name in given}
    outside = out if out is not None and os.path.isdir(out) and os.path.realpath(out) not in folders else None
    jobs, marked = collect(given, outside=outside)
    return plan(jobs, verb, given, out=out, in_place=in_place, overwrite=overwrite), marked


def _meant_by(name: str, outside: str | None) -> Iterator[Job]:
    if os.path.isdir(name):
        yield from _walked(name, outside)
    elif os.path.lexists(name) or not glob.has_magic(name):
        yield _file(name)
    else:  # a pattern that the shell left alone: quoted, or too many names for its command line
        yield from _matching(name, outside)


def _matching(pattern: str, outside: str | None) -> Iterator[Job]:
    """What a pattern matches. Where it says nothing of the kind of file, as `in/*` does, only pictures are meant."""
    anything = os.path.splitext(pattern)[1] != ""
    met = False
    for match in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isdir(match):
            if "**" not in pattern:  # ** meets the files in its folders by itself
                met = True
                yield from _walked(match, outside)
        elif anything or _looks_like_photo(match):
            met = True
            yield replace(_file(match), named=False)
    if not met:
        yield _missing(pattern, "no photo matches this pattern")


def _file(name: str) -> Job:
    """A file that somebody named."""
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        return _missing(name, "there is no such file")
    except (OSError, ValueError) as error:
        return _missing(name, f"the file cannot be read: {getattr(error, 'strerror', None) or error}")
    if not stat.S_ISREG(mode):
        return _missing(name, "this is neither a file nor a folder")
    return Job(name, os.path.basename(name), format=format_of(name))


def _missing(name: str, what: str) -> Job:
    return Job(name, os.path.basename(name), error=PhotoError(what, code="missing", path=name))


def _walked(folder: str, outside: str | None) -> Iterator[Job]:
    """The pictures in a folder and in the folders below it, without hidden ones; links to folders are not followed."""
    unread: list[OSError] = []
    met = False
    for place, folders, files in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _same(os.path.join(place, f), outside))
        for file in sorted(files):
            path = os.path.join(place, file)
            if not file.startswith(".") and _looks_like_photo(path):
                met = True
                yield Job(path, os.path.relpath(path, folder), named=False, format=format_of(path))
    for error in unread:
        name = error.filename if isinstance(error.filename, str) else folder
        yield _missing(name, f"the folder cannot be read: {error.strerror}")
    if not met and not unread:
        yield _missing(folder, "there is no photo in this folder")


def _looks_like_photo(path: str) -> bool:
    """A regular file that is a picture by its content, or claims to be one by its name."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
    return regular and (path.lower().endswith(PICTURE_ENDINGS) or format_of(path) != "")


def _is_marked(path: str) -> bool:
    from visagist.photo.photo import is_marked

    return is_marked(path)


def _same(path: str, other: str | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)


def plan(
    jobs: Sequence[Job],
    verb: str,
    given: Sequence[str],
    *,
    out: str | None = None,
    in_place: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """Give each job the place of its result: `out`, or NAME.VERB.EXT beside the photo, or the photo itself (`in_place`).

    given  what `collect` was given: whether it was one file decides whether `out` may be a file
    Raises UsageError before anything is done: output-clash when two photos would have one result, in-place when a result
    would replace a photo without `in_place`.
    """
    single = len(jobs) == 1 and len(given) == 1 and not os.path.isdir(given[0])
    into = None if out is None else _out_folder(out, single)
    planned = []
    for job in jobs:
        if job.error is not None:
            planned.append(job)
        elif out is None:
            planned.append(_in_place(job) if in_place else replace(job, out=_beside(job, verb)))
        elif into is None:
            planned.append(replace(job, out=out))
        else:
            stem, ending = _name_for(job, os.path.join(into, job.relative))
            planned.append(replace(job, out=stem + ending))
    _refuse_clashes(planned)
    return _guard_photos(planned, in_place, overwrite)


def _out_folder(out: str, single: bool) -> str | None:
    """The folder meant by `out`, or None where it names the file of a single result."""
    from visagist.photo.encoding import FORMATS

    ending = os.path.splitext(out)[1].lower()
    if os.path.isdir(out) or out.endswith(os.sep):
        return out
    if single and ending in FORMATS:
        return None
    if not single and (os.path.lexists(out) or ending in PICTURE_ENDINGS):
        raise UsageError("results of several photos need a folder", code="usage", path=out, hint="name a folder with -o")
    if single and ending:
        hint = "give the file an ending of .jpg, .png, .webp or .tif, or end a folder's name with /"
        raise UsageError(f"pictures cannot be written as {ending}", code="usage", path=out, hint=hint)
    if os.path.lexists(out):
        raise UsageError("this is a file without the ending of a picture", code="usage", path=out, hint="name another with -o")
    return out


def _name_for(job: Job, path: str) -> tuple[str, str]:
    """Stem and ending of a result called like this photo: its own ending where that fits its content, else the content's."""
    from visagist.photo.encoding import FORMATS

    stem, ending = os.path.splitext(path)
    if job.format and FORMATS.get(ending.lower()) != job.format:  # BMP holds no metadata: its results are PNG
        if ending.lower() not in PICTURE_ENDINGS:
            stem += ending  # "holiday.2019" is a name, not an ending
        ending = {"JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif"}.get(job.format, ".png")
    return stem, ending


def _beside(job: Job, verb: str) -> str:
    stem, ending = _name_for(job, job.name)
    return f"{stem}.{verb}{ending}"


def _in_place(job: Job) -> Job:
    if not job.format or "".join(_name_for(job, job.name)) == job.name:
        return replace(job, out=job.name, in_place=True)
    what = f"a {job.format} file of this name cannot be replaced by its result"
    return replace(job, error=OutputError(what, code="in-place", path=job.name, hint="write the result elsewhere with -o"))


def _place(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _refuse_clashes(jobs: Iterable[Job]) -> None:
    """Two photos must not have one result."""
    seen: dict[str, Job] = {}
    for job in jobs:
        if job.out is None:
            continue
        first = seen.setdefault(_place(job.out), job)
        if first is not job:
            what = f"the results of {first.name} and {job.name} would have this same name"
            raise UsageError(what, code="output-clash", path=job.out, hint="work on them one by one, or into different folders")


def _guard_photos(jobs: list[Job], in_place: bool, overwrite: bool) -> list[Job]:
    """Allow results that replace the very photo only if that was asked for, and never let one replace another photo."""
    photos = {_place(job.name): job for job in jobs}
    guarded = []
    for job in jobs:
        owner = None if job.out is None else photos.get(_place(job.out))
        if owner is job:
            if not in_place:
                hint = "choose another place with -o; verbs that edit allow it with --in-place"
                raise UsageError("the result would replace the photo", code="in-place", path=job.name, hint=hint)
            job = replace(job, in_place=True)
        elif owner is not None and overwrite:
            what = f"the result of {job.name} would replace another photo of this batch"
            raise UsageError(what, code="in-place", path=job.out, hint="leave that photo out, or choose another folder with -o")
        guarded.append(job)
    return guarded


def is_there(job: Job, overwrite: bool) -> bool:
    """Whether the result exists already and stays: a rerun after a crash finishes the rest."""
    return job.out is not None and not overwrite and not job.in_place and os.path.lexists(job.out)


def make_room(path: str, hint: str = "choose another with -o") -> None:
    """Make the folder of a result and see that it can be written to, before work is put into the photo. OutputError."""
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        what = f"the folder cannot be made: {error.strerror}"
        raise OutputError(what, code="unwritable", path=folder, hint=hint) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError("the folder cannot be written to", code="unwritable", path=folder, hint=hint)


def _out_of_memory(error: Exception) -> bool:
    """Python's MemoryError, or what torch says on a CPU ("can't allocate memory") and on a GPU ("out of memory")."""
    said = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or "allocate memory" in said or "out of memory" in said


def work_through(
    jobs: Iterable[Job],
    do: Callable[[Job], Any],
    *,
    done: Callable[[Job, Any], None],
    failed: Callable[[Job, VisagistError], None],
    broken: Callable[[Job, Exception], None],
    tally: Tally,
) -> None:
    """Do the jobs one after the other. A failure is told and counted, and the next photo follows.

    do      does one job and returns what `done` is told; None means that the result was there already
    broken  is told of exceptions that are no user's fault
    Raises what ends the whole command: UsageError, WeightsError, KeyboardInterrupt.
    """
    for job in jobs:
        try:
            if job.error is not None:
                raise job.error
            result = do(job)
        except (PhotoError, FaceError, OutputError) as error:
            if error.path is None or isinstance(error, PhotoError | FaceError):
                error.path = job.name
            tally.failed += 1
            failed(job, error)
        except (VisagistError, BrokenPipeError):
            raise
        except Exception as error:
            tally.failed += 1
            if _out_of_memory(error):
                what, hint = "there is not enough memory for this photo", "make it smaller or close other programs"
                failed(job, PhotoError(what, code="too-large", path=job.name, hint=hint))
            else:
                tally.bugs += 1
                broken(job, error)
        else:
            if result is None:
                tally.skipped += 1
            else:
                tally.done += 1
            done(job, result)
