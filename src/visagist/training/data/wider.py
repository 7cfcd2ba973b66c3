"""WIDER FACE annotations (Yang et al., "WIDER FACE: A Face Detection Benchmark", CVPR 2016)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from visagist.errors import PhotoError
from visagist.photo.boxes import Box
from visagist.recipe import Item
from visagist.training.data.labels import IGNORE, Labelled, of_fold
from visagist.training.data.pictures import SUFFIXES, Pictures, pictures_of
from visagist.training.data.tables import Offenders, lines_of, number


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """`wider_face_train_bbx_gt.txt`: path, count of faces, then `x y w h blur expression illumination invalid occlusion pose` each.

    A picture without faces has count 0 and, in the original files, one line of zeros all the same. Boxes of no size occur and are
    left out; invalid = 1 is "ignore". A picture whose count is not that of its lines is left out as a whole.
    """
    items = []
    for file in of_fold(files(path), fold):
        pictures = pictures_of(file.parent if file.parent.name != "wider_face_split" else file.parent.parent)
        lines = lines_of(file, offenders)
        at = 0
        while at < len(lines):
            end = next((i for i in range(at + 1, len(lines)) if _is_picture(lines[i])), len(lines))
            if lines[at].strip():
                items += _picture(file, at, lines[at:end], pictures, offenders)
            at = end
    return items


def _picture(file: Path, at: int, lines: list[str], pictures: Pictures, offenders: Offenders) -> list[Item]:
    """The item of one picture whose lines begin after `at` others; [] when it cannot be used."""
    name = lines[0].strip()
    try:
        count = int(lines[1])
    except (IndexError, ValueError):
        offenders.add(file, at + 1, f"no count of faces after {name!r}")
        return []
    faces = [(at + 3 + i, line) for i, line in enumerate(lines[2:]) if line.strip()]
    if count == 0:
        faces = [(number, line) for number, line in faces if set(line.split()) != {"0"}]
    problem = f"{count} faces announced, {len(faces)} listed" if len(faces) < count else ""
    problem = problem or (f"more than the {count} faces announced" if len(faces) > count else "") or pictures.check(name)
    try:
        if problem:
            raise ValueError(problem)
        labelled = Labelled(pictures[name], offenders)
    except (ValueError, PhotoError) as e:
        offenders.add(file, at + 1, str(e))
        return []
    for line, text in faces:
        if (values := text.split())[2:4] and any(side in ("0", "0.0") for side in values[2:4]):
            continue
        labelled.add(_box(text), file, line)
    return [labelled.item()]


def _box(line: str) -> Callable[[], tuple[Box, str]]:
    def found() -> tuple[Box, str]:
        values = [number(v) for v in line.split()]
        if len(values) < 4:
            raise ValueError(f"{len(values)} numbers instead of at least 4")
        x, y, w, h = values[:4]
        return (x, y, x + w, y + h), IGNORE if len(values) > 7 and values[7] == 1 else "face"

    return found


def files(path: Path) -> list[Path]:
    def fits(file: Path) -> bool:
        try:
            with file.open(encoding="utf-8-sig", errors="replace") as text:
                return _is_picture(text.readline()) and text.readline().strip().isdigit()
        except OSError:
            return False

    if path.is_file():
        return [path] if path.suffix.lower() == ".txt" and fits(path) else []
    return [p for folder in (path, path / "wider_face_split") for p in sorted(folder.glob("*.txt")) if fits(p)]


def _is_picture(line: str) -> bool:
    return PurePosixPath(line.strip()).suffix.lower() in SUFFIXES
