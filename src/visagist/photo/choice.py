"""Which of the faces in a photo are meant: all, the largest, or a number."""

from __future__ import annotations

from collections.abc import Sequence

from visagist.errors import FaceError, UsageError
from visagist.photo.face import Face


def choose(faces: Sequence[Face], face: int | str | None = "all") -> tuple[Face, ...]:
    """The faces meant by "all", "largest" or a number from 1; None means the only one there is.

    FaceError: "no-face" when there are none, "no-such-face" for a number too high, "several-faces" when None leaves it open;
    the message names the numbered faces. UsageError for anything else than these words and numbers.
    """
    number = int(face) if isinstance(face, str) and face.isdecimal() else face
    if number not in ("all", "largest", None) and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise UsageError(f"there is no face {face!r}", code="usage", hint="choose all, largest or a number from 1")
    if not faces:
        raise FaceError("no face was found", code="no-face", hint="turn it upright, or cut out the part with the face")
    if number == "all" or (number is None and len(faces) == 1):
        return tuple(faces)
    if number == "largest":
        return (max(faces, key=lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1])),)
    if isinstance(number, int) and number <= len(faces):
        return (faces[number - 1],)
    what, code = ("there are several faces", "several-faces") if number is None else (f"there is no face {number}", "no-such-face")
    raise FaceError(what, code=code, hint=f"choose {_numbered(faces)}")


def _numbered(faces: Sequence[Face], first: int = 9) -> str:
    """For each of the first few faces: 1 (left 12, top 40, 80x96)."""
    said = []
    for index, face in enumerate(faces[:first], 1):
        x0, y0, x1, y1 = face.box
        said.append(f"{index} (left {x0:.0f}, top {y0:.0f}, {x1 - x0:.0f}x{y1 - y0:.0f})")
    return ", ".join(said) + (f" and so on to {len(faces)}" if len(faces) > first else "")
