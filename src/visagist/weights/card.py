"""The card beside every weights file: what the networks are, what they learnt from, how good they are.

`NAME.safetensors` has its card in `NAME.json`. Reading cards needs no torch, so `visagist models` answers at once.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from visagist.errors import OutputError, WeightsError

FORMAT: Final = 1
MAX_CARD_BYTES = 1 << 20  # a card is a page of text; anything longer is something else

Scalar = bool | int | FiniteFloat | str | None


class _Entry(BaseModel):
    """Immutable, exact: unknown names and numbers written as text are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrainedOn(_Entry):
    """One data set the networks learnt from."""

    set: str
    fold: str = "all"
    count: int = Field(ge=0)
    licence: str


class Measured(_Entry):
    """One figure on data the networks did not learn from; `n` says on how many things."""

    metric: str
    value: FiniteFloat
    n: int = Field(ge=0)
    set: str
    fold: str = "all"


class Made(_Entry):
    """When and how: the day as YYYY-MM-DD and the command that makes the file again."""

    date: str
    command: str


class WeightsCard(_Entry):
    """What is known of a weights file.

    format          version of this layout
    system          name in the catalog, such as "yolo"
    settings        {"preset": name, every field of the recipe}; the networks are rebuilt from them
    sha256          of the .safetensors file, 64 hex digits
    parameters      how many numbers the networks hold
    input           what the networks look at, for people: "aligned window 96x96, RGB in [-1,1]"
    trained_on      every data set with its licence
    commercial_use  whether all those licences allow it
    measured        figures with their n
    limits          where it fails, one sentence each
    paper           the paper, as text
    made            day and command
    """

    format: Literal[1] = FORMAT
    system: str = Field(min_length=1)
    settings: dict[str, Scalar | list[Any]]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    parameters: int = Field(ge=0)
    input: str
    trained_on: tuple[TrainedOn, ...] = Field(default=(), strict=False)
    commercial_use: bool
    measured: tuple[Measured, ...] = Field(default=(), strict=False)
    limits: tuple[str, ...] = Field(default=(), strict=False)
    paper: str
    made: Made

    @property
    def preset(self) -> str | None:
        """The preset the networks were trained as, if the card names one."""
        name = self.settings.get("preset")
        return name if isinstance(name, str) else None


def card_path(weights: str | os.PathLike[str]) -> Path:
    """Where the card of a weights file lies: same folder and stem, ".json"."""
    return Path(weights).with_suffix(".json")


def read_card(weights: str | os.PathLike[str]) -> WeightsCard:
    """The card of a weights file. WeightsError "no-card" or "bad-card", in one line that names the field."""
    path = card_path(weights)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CARD_BYTES + 1)
    except FileNotFoundError:
        hint = "weights without their card are not used; copy the .json that belongs to them beside them"
        raise WeightsError("the weights have no card", code="no-card", path=path, hint=hint) from None
    except OSError as error:
        raise WeightsError(f"the card cannot be read ({error.strerror})", code="bad-card", path=path) from None
    if len(text) > MAX_CARD_BYTES:
        raise WeightsError(f"the card is longer than {MAX_CARD_BYTES >> 20} MB", code="bad-card", path=path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise WeightsError("the card is not JSON", code="bad-card", path=path) from None
    return _parsed(content, path)


def _parsed(content: object, path: Path) -> WeightsCard:
    if not isinstance(content, dict):
        raise WeightsError("the card is not a JSON object", code="bad-card", path=path)
    # Said before anything else: a later format may look different in every other field.
    version = content.get("format")
    if type(version) is not int or version != FORMAT:
        found = json.dumps(version)[:40] if "format" in content else "unnamed"
        hint = "install a newer visagist" if type(version) is int and version > FORMAT else ""
        raise WeightsError(f"the card has format {found}, this version reads {FORMAT}", code="bad-format", path=path, hint=hint)
    try:
        return WeightsCard.model_validate(content)
    except ValidationError as error:
        raise WeightsError(f"the card is wrong: {summary(error)}", code="bad-card", path=path) from None


def summary(error: ValidationError, first: int = 3) -> str:
    """A pydantic error as one line: the first few fields with what is wrong about them."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    said = []
    for problem in problems[:first]:
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "value_error" and not where:  # a class's own words about its fields together
            said.append(problem["msg"].removeprefix("Value error, "))
        else:
            said.append(f"{where[:60] or 'card'}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    more = len(problems) - first
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def write_card(weights: str | os.PathLike[str], card: WeightsCard) -> None:
    """Write the card beside its weights file, whole or not at all. OutputError "unwritable"."""
    text = json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(card_path(weights), text.encode() + b"\n")


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file by these bytes; whoever looks sees the old file or the new one, never a part."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes private files; weights are as readable as any other output
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write ({error.strerror})", code="unwritable", path=path) from error
