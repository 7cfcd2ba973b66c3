"""Files that a command writes beside its result, such as maps, meshes, films: they replace nothing that the same command needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from visagist.apps import batch
from visagist.errors import UsageError

if TYPE_CHECKING:
    from visagist.apps.batch import Job


def guard(jobs: Iterable[Job], files: Mapping[str, Sequence[str]], *, read: Sequence[str] = ()) -> None:
    """See that every file is a place of its own, and make its folder, before any photo is opened; `--overwrite` is not for these.

    files  what an option writes, by its name: {"depth": ["d.png"], "mesh": ["me.obj", "me.mtl", "me.png"]}
    read   other files that the command reads

    UsageError "in-place" for a file that is a photo or is read, "output-clash" for one that is a result or another option's,
    "usage" for a film with the ending of none; OutputError "unwritable" for a folder that cannot be made or written to.
    """
    from visagist.photo.film import ENDINGS

    jobs = list(jobs)
    needed = {_place(path) for path in (*(job.name for job in jobs), *read)}
    taken = {_place(job.out): "the result" for job in jobs if job.out is not None}
    for option, paths in files.items():
        for path in paths:
            place = _place(path)
            if place in needed:
                what = f"--{option} would replace a file that is worked on"
                raise UsageError(what, code="in-place", path=path, hint="choose another name")
            if place in taken:
                what = f"--{option} would be written over {taken[place]}"
                raise UsageError(what, code="output-clash", path=path, hint="choose another name")
            if option == "film" and os.path.splitext(path)[1].lower() not in ENDINGS:
                raise UsageError("films are written as " + ", ".join(ENDINGS), code="usage", path=path)
            taken[place] = f"that of --{option}"
    for option, paths in files.items():
        batch.make_room(paths[0], f"choose another with --{option}")


def _place(path: str) -> object:
    """The same for all names of a file: of one that exists where it lies on the disk, of others their full name."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return os.path.normcase(os.path.realpath(path))
    return found.st_dev, found.st_ino
