"""The options that commands share: what they are called, what they take, what help says of them. No work is done here."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import Annotated, Any

import typer


class Finish(StrEnum):
    glazed = "glazed"
    glossy = "glossy"
    tint = "tint"


class Colour(StrEnum):
    style = "style"
    keep = "keep"
    match = "match"


class Init(StrEnum):
    content = "content"
    noise = "noise"
    mixed = "mixed"


class Preset(StrEnum):
    default = "default"
    seed = "seed"
    demo = "demo"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def face_number(text: str) -> int | str:
    if text in ("all", "largest"):
        return text
    if text.isascii() and text.isdecimal() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"{text!r} is none of all, largest, or a number from 1.")


def colour_code(text: str) -> str:
    if not re.fullmatch(r"#?[0-9a-fA-F]{6}", text):
        raise typer.BadParameter(f"{text!r} is no colour such as '#b0123a' (red, green, blue in hexadecimal).")
    return text if text.startswith("#") else f"#{text}"


def numbers(text: str | None) -> Any:
    """Numbers between commas; None stays None."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 2,1.") from None


def finite(value: float) -> float:
    if not math.isfinite(value):  # NaN passes any range
        raise typer.BadParameter(f"{value} is no number between 0 and 1.")
    return value


Photos = Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Files, folders or patterns.", show_default=False)]
OutCopy = Annotated[
    str | None,
    typer.Option("-o", "--out", metavar="PATH", help="Also write copies with the faces drawn: a folder, or a file for one photo."),
]
OutResult = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--out",
        metavar="PATH",
        help="Where results go: a folder (the tree is mirrored), or a file for one photo. Default: NAME.VERB.EXT beside the photo.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per photo and line, in input order.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist. Default: skip them.")]
InPlace = Annotated[bool, typer.Option("--in-place", help="Let results replace the photos themselves.")]
FaceOption = Annotated[
    Any, typer.Option("--face", metavar="all|largest|N", parser=face_number, help="Which faces; N counts from 1 by falling area.")
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where networks run; an explicit device never falls back.")]
Seed = Annotated[int, typer.Option("--seed", help="For verbs that draw random numbers; this one draws none.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; failures are always told.")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Larger photos are refused before they are decoded.")]
MAX_PIXELS = 50_000_000
