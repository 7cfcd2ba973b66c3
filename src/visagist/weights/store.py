"""Weights files: write them, find them, read them, and trust nothing in them.

A file is safetensors with names "NET.PARAMETER" ("D.conv1.weight") and its card beside it. What is large lies there as float16, or
in 8 bits where a system can do with them; vectors and small tensors as float32 (biases, running statistics, fitted maps: they cost
little and need their digits).
A file that was cut, changed, renamed from another format, or that holds NaN does not load. torch is imported on use.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from visagist.errors import OutputError, VisagistError, WeightsError
from visagist.weights.card import (
    Made,
    Measured,
    TrainedOn,
    WeightsCard,
    card_path,
    read_card,
    summary,
    write_atomically,
    write_card,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

SUFFIX = ".safetensors"
BUNDLED = Path(__file__).parent / "bundled"
RUN_WEIGHTS = "weights" + SUFFIX  # the name of the finished weights in a run folder

SMALL = 1024  # tensors of up to so many numbers, and all vectors, keep float32
MAX_HEADER_BYTES = 16 << 20  # names and shapes of some 100,000 tensors
MAX_TENSORS = 100_000
BYTES = {"F16": 2, "F32": 4, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1}  # what a file may hold
STEP = ":step"  # behind the name of a tensor of 8 bits: what one unit of each of its rows is worth, float32

Header = dict[str, tuple[str, tuple[int, ...]]]  # name -> dtype, shape


def path(system: str) -> Path:
    """Where the weights of a system lie that came with the package; the file need not exist."""
    return BUNDLED / (system + SUFFIX)


def bundled() -> list[WeightsCard]:
    """The cards of all weights that came with the package, sorted by system. Needs no torch."""
    return [read_card(file) for file in sorted(BUNDLED.glob("*" + SUFFIX))]


def find(place: str | os.PathLike[str]) -> Path:
    """The weights file meant by a path: the file itself, or the finished weights in a run folder. WeightsError "missing"."""
    try:
        return _found(Path(place))
    except OSError as error:  # no permission, a name too long
        raise WeightsError(f"cannot be read ({error.strerror or error})", code="unreadable", path=place) from None


def _found(place: Path) -> Path:
    if place.is_dir():
        finished = place / RUN_WEIGHTS
        if finished.is_file():
            return finished
        others = sorted(place.glob("*" + SUFFIX))
        if len(others) == 1:
            return others[0]
        what = "several weights files lie in this folder" if others else "no weights lie in this folder"
        hint = "name one of " + ", ".join(p.name for p in others[:5]) if others else f"a finished run holds {RUN_WEIGHTS}"
        raise WeightsError(what, code="missing", path=place, hint=hint)
    if not place.exists():
        raise WeightsError("no such weights file", code="missing", path=place)
    if not place.is_file():
        raise WeightsError("not a file", code="not-weights", path=place)
    return place


def save(
    place: str | os.PathLike[str],
    state: Mapping[str, Tensor | np.ndarray],
    *,
    system: str,
    settings: Mapping[str, Any],
    input: str,
    paper: str,
    command: str,
    commercial_use: bool,
    trained_on: Sequence[TrainedOn | Mapping[str, Any]] = (),
    measured: Sequence[Measured | Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    parameters: int | None = None,
    made: str | None = None,
    bits: int = 16,
) -> WeightsCard:
    """Write a weights file and its card, the weights first, each whole or not at all.

    state       name "NET.PARAMETER" -> tensor or array of any shape; floats are rounded as the module says
    settings    {"preset": name, fields of the recipe}; tuples become lists
    parameters  what the card says; default: how many floating-point numbers are in `state`
    made        day as YYYY-MM-DD; default today
    bits        of what is large: 16, or 8 with a float32 step for each row (output channel)
    Returns the card. WeightsError "not-finite" or "overflow" when a number does not fit, "bad-card"; OutputError "unwritable".
    """
    import torch
    from safetensors.torch import save as serialise

    target = Path(place)
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        tensors |= _stored(name, torch.as_tensor(value), target, bits)
    count = sum(t.numel() for n, t in tensors.items() if not n.endswith(STEP) and (t.is_floating_point() or n + STEP in tensors))
    data = serialise(tensors, {"format": "pt"})  # more metadata would come out in random order
    card = describe(
        target,
        system=system,
        settings=settings,
        sha256=hashlib.sha256(data).hexdigest(),
        parameters=count if parameters is None else parameters,
        input=input,
        trained_on=trained_on,
        commercial_use=commercial_use,
        measured=measured,
        limits=limits,
        paper=paper,
        command=command,
        made=made,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder ({error.strerror})", code="unwritable", path=target.parent) from error
    write_atomically(target, data)
    write_card(target, card)
    return card


def describe(
    place: str | os.PathLike[str],
    *,
    system: str,
    settings: Mapping[str, Any],
    input: str,
    paper: str,
    command: str,
    commercial_use: bool,
    trained_on: Sequence[TrainedOn | Mapping[str, Any]] = (),
    measured: Sequence[Measured | Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    parameters: int = 0,
    made: str | None = None,
    sha256: str = "0" * 64,
) -> WeightsCard:
    """The card that `save` would write; nothing is written. A training asks for it before it starts: WeightsError "bad-card"
    after hours would be a pity. Without parameters and sha256, which nobody knows before, it is of no other use."""
    try:
        return WeightsCard(
            system=system,
            settings=json.loads(json.dumps(dict(settings))),
            sha256=sha256,
            parameters=parameters,
            input=input,
            trained_on=tuple(t if isinstance(t, TrainedOn) else TrainedOn.model_validate(dict(t)) for t in trained_on),
            commercial_use=commercial_use,
            measured=tuple(m if isinstance(m, Measured) else Measured.model_validate(dict(m)) for m in measured),
            limits=tuple(limits),
            paper=paper,
            made=Made(date=made or date.today().isoformat(), command=command),
        )
    except (ValidationError, TypeError, ValueError) as error:  # the latter two: what is no JSON or no row of a card
        why = summary(error) if isinstance(error, ValidationError) else str(error)
        raise WeightsError(f"the card is wrong: {why}", code="bad-card", path=card_path(place)) from None


def _stored(name: str, value: Tensor, target: Path, bits: int) -> dict[str, Tensor]:
    """The tensor as it goes into the file, of 8 bits with its steps."""
    import torch

    value = value.detach().cpu()
    if not value.is_floating_point():
        if value.dtype not in (torch.int64, torch.int32, torch.uint8, torch.bool):
            raise WeightsError(f"{name} has type {value.dtype}, which weights files do not hold", code="wrong-type", path=target)
        return {name: value.clone().contiguous()}
    if not bool(torch.isfinite(value).all()):
        raise WeightsError(f"{name} holds NaN or infinite numbers", code="not-finite", path=target)
    small = value.dim() <= 1 or value.numel() <= SMALL
    if bits == 8 and not small:
        step = value.flatten(1).abs().amax(1).float().clamp_min(1e-12) / 127
        units = (value.float() / step.view(-1, *[1] * (value.dim() - 1))).round().to(torch.int8).contiguous()
        return {name: units, name + STEP: step}
    rounded = value.to(torch.float32 if small else torch.float16).clone().contiguous()
    if not bool(torch.isfinite(rounded).all()):
        hint = "a number this large in a network is usually a mistake of the training"
        what = f"{name} reaches {value.abs().max():.3g}, too large for {rounded.dtype}"
        raise WeightsError(what, code="overflow", path=target, hint=hint)
    return {name: rounded}


def read(place: str | os.PathLike[str]) -> tuple[dict[str, Tensor], WeightsCard]:
    """Tensors and card of a weights file or run folder, after every check.

    Floats come as float32, on the CPU; integers as they were. WeightsError: missing, not-weights, truncated, no-card,
    bad-card, bad-format, wrong-hash, wrong-type, not-finite, unreadable.
    """
    from safetensors import SafetensorError, safe_open

    file = find(place)
    try:
        header = read_header(file)
        card = read_card(file)
        if _sha256(file) != card.sha256:
            what = "the file is not the one its card describes (sha256 differs)"
            hint = "one of the two was changed or belongs to other weights; copy both again from where they came from"
            raise WeightsError(what, code="wrong-hash", path=file, hint=hint)
        with safe_open(file, framework="pt") as opened:
            tensors = {name: _loaded(name, opened.get_tensor(name), file) for name in header}
    except SafetensorError as error:
        raise WeightsError(f"not a sound safetensors file ({error})", code="not-weights", path=file) from None
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror or error})", code="unreadable", path=file) from None
    return _whole(tensors, file), card


def _whole(tensors: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The tensors with those of 8 bits multiplied by their steps. WeightsError "wrong-shape" where steps and rows differ."""
    import torch

    whole = {name: value for name, value in tensors.items() if not name.endswith(STEP)}
    for name, value in whole.items():
        if value.dtype == torch.int8:
            step = tensors.get(name + STEP)
            if step is None or step.dtype != torch.float32 or value.dim() < 2 or step.shape != value.shape[:1]:
                raise WeightsError(f"{name[:60]} has no fitting steps", code="wrong-shape", path=file, hint="copy the file again")
            whole[name] = value * step.view(-1, *[1] * (value.dim() - 1))
    return whole


def read_header(file: Path) -> Header:
    """Names, types and shapes in a safetensors file, checked against the size of the file; reads nothing else, needs no torch."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        if len(start) < 8:
            raise WeightsError(f"only {size} bytes long", code="truncated", path=file, hint="copy the file again")
        length = struct.unpack("<Q", start)[0]
        text = opened.read(min(length, MAX_HEADER_BYTES))
    # Both are tested together: of any other format (a pickle, a zip, a picture) the first eight bytes give a senseless length.
    if not 2 <= length <= MAX_HEADER_BYTES or not text.startswith(b"{"[: len(text)]):
        hint = "weights are .safetensors files made by `visagist train`; files of other programs, renamed or not, are not read"
        raise WeightsError("not a safetensors file", code="not-weights", path=file, hint=hint)
    if len(text) < length:
        raise WeightsError("the file ends inside its header", code="truncated", path=file, hint="copy the file again")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise WeightsError("the header is not JSON", code="not-weights", path=file) from None
    entries.pop("__metadata__", None)
    if not 1 <= len(entries) <= MAX_TENSORS:
        raise WeightsError(f"the file holds {len(entries)} tensors", code="not-weights", path=file)
    header: Header = {}
    needed = 8 + length
    for name, entry in entries.items():
        kind, shape, count = _entry(name, entry, file)
        header[name] = kind, shape
        needed += count
    if needed != size:
        what = f"{size} bytes long where {needed} are needed"
        raise WeightsError(what, code="truncated" if size < needed else "not-weights", path=file, hint="copy the file again")
    return header


def _entry(name: str, entry: Any, file: Path) -> tuple[str, tuple[int, ...], int]:
    """Type, shape and bytes of one tensor as the header tells them."""
    shown = name[:60]
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sound = isinstance(kind, str) and len(shape) <= 8 and all(type(v) is int and 0 <= v < 1 << 40 for v in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise WeightsError(f"the header entry of {shown} makes no sense", code="not-weights", path=file)
    if kind not in BYTES:
        hint = "only " + ", ".join(BYTES) + " are"
        raise WeightsError(f"{shown} is of type {kind[:20]}, which is not read", code="wrong-type", path=file, hint=hint)
    count = prod(shape) * BYTES[kind]
    if end - begin != count:
        raise WeightsError(f"{shown} of shape {list(shape)} has {end - begin} bytes, not {count}", code="not-weights", path=file)
    return kind, shape, count


def _loaded(name: str, value: Tensor, file: Path) -> Tensor:
    import torch

    if not value.is_floating_point():
        return value.clone()
    value = value.to(torch.float32, copy=True)
    if not bool(torch.isfinite(value).all()):
        raise WeightsError(f"{name[:60]} holds NaN or infinite numbers", code="not-finite", path=file, hint="train again")
    return value


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def state(nets: Mapping[str, nn.Module], names: Iterable[str] = ()) -> dict[str, Tensor]:
    """All parameters and buffers of the named networks (default all), as `save` wants them: "NET.PARAMETER" -> tensor."""
    chosen = tuple(names) or tuple(nets)
    return {f"{net}.{key}": value for net in chosen for key, value in nets[net].state_dict().items()}


def compare(nets: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> list[str]:
    """What keeps these tensors from being the weights of these networks, one short text each; empty when they fit."""
    wanted = {name: tuple(value.shape) for name, value in state(nets).items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    problems = [f"{name} is missing" for name in wanted if name not in given]
    problems += [f"{name[:60]} is unknown" for name in given if name not in wanted]
    both = [name for name in wanted if name in given and wanted[name] != given[name]]
    return problems + [f"{name} has shape {list(given[name])}, not {list(wanted[name])}" for name in both]


def mismatch(problems: Sequence[str], file: str | os.PathLike[str]) -> VisagistError:
    """The error that says so, naming the first few."""
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    what = "the weights are of another network: " + ", ".join(problems[:3]) + more
    return WeightsError(what, code="wrong-shape", path=file)
