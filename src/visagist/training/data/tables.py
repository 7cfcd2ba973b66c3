"""Rows of csv files with their line numbers, and a list of what is wrong with a data set."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from visagist.errors import TrainingError

log = logging.getLogger(__name__)

FOLD_NAMES = {"train": "train", "training": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "dev"}


class Offenders:
    """Collects bad entries of a data set. `settle` refuses the set and names the first five, or logs how many were skipped.

    classes  the labels that may occur on boxes; () for any
    """

    def __init__(self, skip: bool = False, classes: Sequence[str] = ()) -> None:
        self.skip = skip
        self.classes = tuple(classes)
        self.found: list[tuple[str, int | None, str]] = []

    def add(self, path: str | PathLike[str], line: int | None, what: str) -> None:
        """One bad entry: the file, the line in it if it has lines, and what is wrong."""
        self.found.append((fspath(path), line, what))

    def settle(self) -> None:
        """TrainingError bad-data when something was added and may not be skipped. Files in the order they were read in, and in
        each of them from top to bottom."""
        count = len(self.found)
        if not count:
            return
        order = {path: i for i, path in reversed(list(enumerate(path for path, _, _ in self.found)))}
        found = sorted(self.found, key=lambda one: (order[one[0]], one[1] or 0))
        told = [f"{path}{'' if line is None else f' line {line}'}: {what}" for path, line, what in found[:5]]
        shown = "; ".join(told) + (f"; and {count - 5} more" if count > 5 else "")
        if not self.skip:
            raise TrainingError(
                f"{count} bad {'entry' if count == 1 else 'entries'}: {shown}",
                code="bad-data",
                path=found[0][0],
                hint="--skip-bad leaves them out",
            )
        log.warning("skipped %d bad %s: %s", count, "entry" if count == 1 else "entries", shown)


@dataclass(frozen=True)
class Row:
    """One row of a table; `line` counts from 1 and is the line on which the row ends."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A csv file with a header line."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    broken: tuple[tuple[int, str], ...] = ()  # lines that are no rows, and why

    def has(self, *columns: str) -> bool:
        return set(columns) <= set(self.columns)


def header(path: Path) -> tuple[str, ...]:
    """The column names of a csv file; TrainingError when it is no text."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return tuple(name.strip() for name in next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise TrainingError(f"not a readable csv file ({e})", code="bad-data", path=path) from e


def table(path: Path) -> Table:
    """The whole csv file. Rows with too few or too many cells are listed as broken; TrainingError when it is no text."""
    rows: list[Row] = []
    broken: list[tuple[int, str]] = []
    for row in rows_of(path):
        if isinstance(row, Row):
            rows.append(row)
        else:
            broken.append(row)
    return Table(path, header(path), tuple(rows), tuple(broken))


def rows_of(path: Path) -> Iterator[Row | tuple[int, str]]:
    """The rows of a csv file one after the other, for files too large to hold; (line, why) for a line that is no row.

    Empty lines are passed over; TrainingError when it is no text.
    """
    columns = header(path)
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            next(reader, None)
            for cells in reader:
                line = reader.line_num
                if not cells:
                    continue
                if len(cells) == len(columns):
                    yield Row(line, dict(zip(columns, (c.strip() for c in cells), strict=True)))
                else:
                    yield line, f"{len(cells)} cells instead of {len(columns)}"
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise TrainingError(f"not a readable csv file ({e}, after line {line})", code="bad-data", path=path) from e


def lines_of(path: Path, offenders: Offenders) -> list[str]:
    """The lines of a text file; one that is no text is an offender and has none."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        line = path.read_bytes()[: e.start].count(b"\n") + 1
        offenders.add(path, line, "this is not text")
    except OSError as e:
        offenders.add(path, None, e.strerror or str(e))
    return []


def number(text: str) -> float:
    """A finite number; ValueError says what is there instead."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def fact(text: str) -> float | str:
    """A cell as a number where it is a finite one, else as text."""
    try:
        return number(text)
    except ValueError:
        return text


def in_fold(row: Row, fold: str | None) -> bool:
    """Whether a row belongs to the fold; every row does when there is no fold column or no fold is asked for."""
    return fold in (None, "all") or row.cells.get("fold", fold) == fold
