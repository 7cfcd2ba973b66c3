"""A folder of augmented pictures as a data set: what is in it already, and a row for every new one.

    ann/7_yaw+25_s03_smile_l1.jpg   pictures, a folder for each person
    augmented.csv                   file, identity, source, ..., x0, y0 ... x67, y67: readable by `readers.read`
    augment.json                    the settings; a folder is continued with its own settings only

The rows of a source are written once its pictures are there, so a stopped run loses the work of one source.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visagist.errors import OutputError
from visagist.recipe import Item
from visagist.training.data.kinds import POINT_COLUMNS
from visagist.training.data.tables import table

TABLE, SETTINGS = "augmented.csv", "augment.json"
COLUMNS = ("file", "identity", "fold", "video", "source", "yaw", "shape", "expression", "light", "of", "width", "height")


class Folder:
    """The set at `place`, begun or continued with these settings.

    done  sources whose pictures are all there
    OutputError: "exists" where the folder holds other things, or pictures of other settings and `overwrite` is not set;
    "unwritable".
    """

    def __init__(self, place: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.place = place
        self.done: set[str] = set()
        try:
            self._begin(json.loads(json.dumps(dict(settings))), overwrite)
        except OSError as error:
            raise _unwritable(error, place) from error

    def _begin(self, wanted: dict[str, Any], overwrite: bool) -> None:
        listed, rows = self.place / SETTINGS, self.place / TABLE
        if listed.is_file():
            try:
                same = json.loads(listed.read_text(encoding="utf-8")) == wanted
            except ValueError:
                same = False
            if not same and not overwrite:
                hint = "name another folder with -o, or give the settings of its augment.json; --overwrite begins anew"
                raise OutputError("pictures of other settings are in this folder", code="exists", path=self.place, hint=hint)
        elif self.place.exists() and (not self.place.is_dir() or any(self.place.iterdir())):
            raise OutputError("the folder holds other things", code="exists", path=self.place, hint="name a new folder with -o")
        self.place.mkdir(parents=True, exist_ok=True)
        if overwrite:
            rows.unlink(missing_ok=True)
        listed.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        kept = self._kept(rows) if rows.is_file() else []
        with rows.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((*COLUMNS, *POINT_COLUMNS))
            writer.writerows(kept)

    def _kept(self, rows: Path) -> list[list[str]]:
        """Rows of sources that are finished: as many rows as each of them says, and their pictures are there."""
        found = [dict(row.cells) for row in table(rows).rows if {"file", "source", "of"} <= row.cells.keys()]
        found = [row for row in found if row["file"] and (self.place / row["file"]).is_file()]
        count = Counter(row["source"] for row in found)
        kept = [row for row in found if row["of"] == str(count[row["source"]])]
        self.done = {row["source"] for row in kept}
        return [[row.get(name, "") for name in (*COLUMNS, *POINT_COLUMNS)] for row in kept]

    def add(self, rows: Sequence[tuple[Mapping[str, Any], np.ndarray]]) -> None:
        """The rows of one source: its columns and points [68, 2] in house coordinates."""
        try:
            with (self.place / TABLE).open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                for cells, points in rows:
                    numbers = [f"{v:.2f}" for v in (np.asarray(points) - 0.5).ravel()]
                    writer.writerow([*(cells.get(name, "") for name in COLUMNS), *numbers])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(error, self.place) from error


def source_of(item: Item) -> str:
    """What a picture is called among sources, also where several sets are worked on."""
    return f"{item.facts.get('set', '')}/{item.name}"


def columns_of(item: Item, person: str) -> dict[str, Any]:
    """What every picture made of this item says of it; sets without folds are there to be learnt from."""
    told = {"identity": person, "source": source_of(item), "fold": item.facts.get("fold", "train")}
    return told | {"video": f"{v:g}" if isinstance(v := item.facts.get("video", ""), float) else v}


def file_name(text: str) -> str:
    """The text as a part of a file's name: without separators, control characters and leading dots."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("._") or "unnamed"


def _unwritable(error: OSError, place: Path) -> OutputError:
    return OutputError(f"cannot be written ({error.strerror or error})", code="unwritable", path=place)
