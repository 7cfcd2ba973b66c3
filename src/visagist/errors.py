"""What can go wrong, as one tree.

    VisagistError                 exit code   typical reason codes
    ├── UsageError                     2      usage, output-clash, in-place, unknown-system, no-device, missing-extra
    ├── PhotoError                     1      missing, empty, not-a-photo, truncated, too-large, unsupported
    ├── FaceError                      1      no-face, no-such-face, several-faces, no-mouth
    ├── OutputError                    1      unwritable, exists
    ├── WeightsError                   2      no-card, bad-card, wrong-hash, not-finite, wrong-shape, truncated
    └── TrainingError                  4      not-finite, bad-data, no-data, cannot-resume

A command that works through several photos turns a PhotoError, FaceError or OutputError into one line on stderr and goes on
with the next photo; it ends with 1 when some photos failed and 3 when all did. Every other error ends the command with the
code above. Anything outside this tree is a mistake of ours: traceback and exit code 70.
"""

from __future__ import annotations

from os import PathLike, fspath


class VisagistError(Exception):
    """Something a user can mend.

    what  says what is wrong, without the path and without a full stop
    code  short stable reason for programs, such as "truncated"
    path  the file it is about, if any
    hint  what to do about it, if that is not obvious
    """

    exit_code = 70

    def __init__(self, what: str, *, code: str, path: str | PathLike[str] | None = None, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.path = None if path is None else fspath(path)
        self.hint = hint

    def __str__(self) -> str:
        return self.what + (f"; {self.hint}" if self.hint else "")

    def line(self) -> str:
        """The one line a command prints: path, reason code, what is wrong and what to do; control characters made visible."""
        where = "" if self.path is None else f"{self.path}: "
        text = f"{where}[{self.code}] {self}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UsageError(VisagistError):
    """The command or call itself is wrong; nothing was started."""

    exit_code = 2


class PhotoError(VisagistError):
    """A photo cannot be read."""

    exit_code = 1


class FaceError(VisagistError):
    """A photo is fine, but the face asked for is not there or cannot be used."""

    exit_code = 1


class OutputError(VisagistError):
    """A result cannot be written."""

    exit_code = 1


class WeightsError(VisagistError):
    """A weights file or its card is missing, damaged or of another network."""

    exit_code = 2


class TrainingError(VisagistError):
    """Training or measuring cannot start or cannot go on."""

    exit_code = 4
