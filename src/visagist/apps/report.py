"""What a command says: rows or JSON lines on stdout as each photo is done, failures and progress on stderr."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from visagist.errors import VisagistError

if TYPE_CHECKING:
    from rich.progress import Progress

    from visagist.apps.batch import Job, Tally


def printable(text: str) -> str:
    """The text on one line: control characters and bytes that are no UTF-8 made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_json(value: Any) -> str:
    """Strict JSON on one line. ASCII, so that names with undecodable bytes survive; numbers that JSON does not know are null."""
    return json.dumps(_finite(value), allow_nan=False)


def _as_csv(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def complain(error: VisagistError) -> None:
    """A failure as one line on stderr."""
    print(error.line(), file=sys.stderr, flush=True)


@contextmanager
def waiting(text: str, quiet: bool) -> Iterator[None]:
    """A moving sign on a terminal while something long runs."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@contextmanager
def counting(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; gives what is to be told how many are done."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


class Report:
    """Says what becomes of the photos of a batch; a bar shows how far it is where stderr is a terminal.

    columns  headings and widths of the rows; a width of 0 is for the last column
    noun     what was done, for the last line: "painted"
    csv      rows as csv: without widths, and the first row brings its own headings (see `headings`)
    """

    def __init__(
        self, jobs: Sequence[Job], *, json: bool, quiet: bool, columns: Mapping[str, int], noun: str, csv: bool = False
    ) -> None:
        self.json = json
        self.csv = csv
        self.quiet = quiet
        self.noun = noun
        self.total = len(jobs)
        self.columns = columns
        self.name_width = min(40, max((len(printable(job.name)) for job in jobs), default=5))
        self._headed = False
        self._ended = 0
        self._at_work = ""
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            # Redirection would send rows to stderr even where stdout is a file, so the bar steps aside instead (see `_say`).
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task("", total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def begins(self, job: Job) -> None:
        """Show the name of the photo at work."""
        if self._bar is not None:
            name = printable(job.name)
            self._at_work = name if len(name) <= 40 else "…" + name[-39:]
            self._bar.update(self._task, description=self._at_work)

    def tells(self, text: str, done: float) -> None:
        """How far the photo at work is: in words, and as a part of it, 0..1."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._at_work} {text}", completed=self._ended + min(done, 0.999))

    def ends(self) -> None:
        """One photo more is dealt with."""
        self._ended += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._ended)

    def record(self, record: Mapping[str, Any]) -> None:
        """One JSON line, with `--json`."""
        if self.json:
            self._say(as_json(record))

    def row(self, name: str, *cells: str) -> None:
        """One row of the table, without `--json`."""
        if self.json:
            return
        if self.csv:
            self._say(_as_csv(name, *cells))
            return
        if not self._headed:
            self._headed = True
            self._say(self._aligned("photo", tuple(self.columns)))
        self._say(self._aligned(printable(name), cells))

    def headings(self, names: Sequence[str]) -> None:
        """The first line of a csv; what comes later is left out."""
        if self.csv and not self._headed:
            self._headed = True
            self._say(_as_csv(*names))

    def failed(self, error: VisagistError) -> None:
        """One failure, on stderr; `--quiet` does not hide it."""
        self._say(error.line(), error=True)

    def remarks(self, name: str, text: str) -> None:
        """What is worth knowing about a result, on stderr; `--quiet` hides it."""
        if not self.quiet:
            self._say(f"{printable(name)}: {text}", error=True)

    def broken(self, name: str, error: Exception) -> None:
        """A mistake of ours, on stderr with its traceback."""
        text = "".join(traceback.format_exception(error))
        self._say(
            f"{text}{printable(name)}: [internal] this is a mistake in visagist, not in your photo; please report it", error=True
        )

    def summary(self, tally: Tally) -> None:
        """How many of what, on stderr; silent where one photo was simply done."""
        if self.quiet or (tally.done == self.total == 1):
            return
        parts = [f"{tally.done} {self.noun}"]
        parts += [f"{tally.skipped} skipped because the result exists (--overwrite replaces it)"] if tally.skipped else []
        parts += [f"{tally.marked} made by visagist left out"] if tally.marked else []
        parts += [f"{tally.failed} failed"] if tally.failed else []
        self._say(", ".join(parts), error=True)

    def _aligned(self, name: str, cells: Sequence[str]) -> str:
        widths = self.columns.values()
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{name:<{self.name_width}}  {text}".rstrip()

    def _say(self, text: str, *, error: bool = False) -> None:
        stream = sys.stderr if error else sys.stdout
        aside = self._bar is not None and stream.isatty()
        if aside and self._bar is not None:
            self._bar.stop()
        print(text, file=stream, flush=True)
        if aside and self._bar is not None:
            self._bar.start()
