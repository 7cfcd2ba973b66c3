"""WIDER FACE annotations (Yang et al., "WIDER FACE: A Face Detection Benchmark", CVPR 2016)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from visagist.photo.face import Face
from visagist.recipe import Item
from visagist.training.data.labels import IGNORE, of_fold
from visagist.training.data.pictures import SUFFIXES, pictures_of
from visagist.training.data.tables import Offenders, number


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """`wider_face_train_bbx_gt.txt`: path, count of faces, then `x y w h blur expression illumination invalid occlusion pose` each.

    A picture without faces has count 0 and, in the original files, one line of zeros all the same. Boxes of no size occur and are
    left out; invalid = 1 is "ignore".
    """
    items = []
    for file in of_fold(files(path), fold):
        pictures = pictures_of(file.parent if file.parent.name != "wider_face_split" else file.parent.parent)
        lines = file.read_text(encoding="utf-8").splitlines()
        at = 0
        while at < len(lines):
            name, line = lines[at].strip(), at + 1
            at += 1
            if not name:
                continue
            faces: list[Face] = []
            problem = ""
            try:
                count = int(lines[at])
                at += 1
            except (IndexError, ValueError):
                offenders.add(file, line, f"no count of faces after {name!r}")
                while at < len(lines) and not _is_picture(lines[at]):
                    at += 1
                continue
            taken = 0
            while at < len(lines) and not _is_picture(lines[at]) and (taken < max(count, 1)):
                try:
                    if (face := _face(lines[at])) is not None and count:
                        faces.append(face)
                except ValueError as e:
                    problem = problem or f"line {at + 1}: {e}"
                taken, at = taken + 1, at + 1
            if taken < count:
                problem = problem or f"{count} faces announced, {taken} listed"
            while at < len(lines) and not _is_picture(lines[at]):
                problem = problem or (f"more than the {count} faces announced" if lines[at].strip() else "")
                at += 1
            if problem := problem or pictures.check(name):
                offenders.add(file, line, problem)
            else:
                items.append(Item(name, pictures[name], tuple(faces)))
    return items


def _face(line: str) -> Face | None:
    values = [number(v) for v in line.split()]
    if len(values) < 4:
        raise ValueError(f"{len(values)} numbers instead of at least 4")
    x, y, w, h = values[:4]
    if w <= 0 or h <= 0:
        return None
    return Face((x, y, x + w, y + h), label=IGNORE if len(values) > 7 and values[7] == 1 else "face")


def files(path: Path) -> list[Path]:
    def fits(file: Path) -> bool:
        try:
            with file.open(encoding="utf-8") as text:
                return _is_picture(text.readline()) and text.readline().strip().isdigit()
        except (UnicodeDecodeError, OSError):
            return False

    if path.is_file():
        return [path] if path.suffix.lower() == ".txt" and fits(path) else []
    return [p for folder in (path, path / "wider_face_split") for p in sorted(folder.glob("*.txt")) if fits(p)]


def _is_picture(line: str) -> bool:
    return PurePosixPath(line.strip()).suffix.lower() in SUFFIXES
