"""`visagist doctor` and `visagist models`: what is installed, what it is worth, and how a photo was made. No torch is imported."""

from __future__ import annotations

import hashlib
import os
import platform
import struct
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.apps.report import as_json, complain, printable
from visagist.errors import PhotoError, UsageError, VisagistError, WeightsError

if TYPE_CHECKING:
    from visagist.weights.card import WeightsCard

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "safetensors",
    "pydantic",
    "typer",
    "rich",
    "scikit-image",
    "lightning",
)
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}  # of /proc/cpuinfo, on x86 and on ARM


def doctor(photo: str | None, *, json: bool, max_pixels: int) -> int:
    """Report on the installation, the weights and one photo if given. Returns the exit code: 2 bad weights, 3 bad photo."""
    failures: list[VisagistError] = []
    report: dict[str, Any] = {
        "visagist": _version("visagist") or "0+source",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "gpu": os.path.exists("/proc/driver/nvidia/version"),
        "weights": [_checked(file, failures) for file in _weights_files()],
    }
    if photo is not None:
        report["photo"] = _photo(photo, max_pixels, failures)
    print(as_json(report) if json else "\n".join(_lines(report)), flush=True)
    for failure in failures:
        complain(failure)
    return max((3 if isinstance(failure, PhotoError) else failure.exit_code for failure in failures), default=0)


def models(*, json: bool) -> int:
    """The systems of the table with their weights and figures. Returns the exit code, 2 if weights are damaged."""
    from visagist import catalog
    from visagist.weights.card import read_card

    rows, failures = [], []
    for system, name in [(row, name) for row in catalog.SYSTEMS.values() for name in row.names]:
        row: dict[str, Any] = {"system": system.name, "verb": system.verb, "presets": list(system.presets), "paper": system.paper}
        row["name"] = name
        card: WeightsCard | None = None
        file = system.files.get(name)
        if file is not None:
            try:
                card = read_card(file)
            except WeightsError as error:
                failures.append(error)
        row["bundled"] = card is not None
        row["bytes"] = file.stat().st_size if file is not None else None
        for fact in ("parameters", "commercial_use", "sha256", "input"):
            row[fact] = getattr(card, fact, None)
        row["measured"] = [entry.model_dump(mode="json") for entry in card.measured] if card is not None else []
        row["trained_on"] = [entry.model_dump(mode="json") for entry in card.trained_on] if card is not None else []
        row["limits"] = list(card.limits) if card is not None else []
        rows.append(row)
    if json:
        for row in rows:
            print(as_json(row), flush=True)
    else:
        _print_table(rows)
    for failure in failures:
        complain(failure)
    return WeightsError.exit_code if failures else 0


def summary(system: str) -> int:
    """The layers of a system's network with their shapes and parameters, where it is a chain of layers. Imports its room."""
    from visagist import catalog

    recipe = catalog.recipe(system)
    if not hasattr(recipe, "summary"):
        shown = ", ".join(row.name for row in catalog.SYSTEMS.values() if row.verb == "classify")
        raise UsageError(f"{system} is no single chain of layers", code="no-summary", hint=f"there is a summary of {shown}")
    print(recipe.summary(), flush=True)
    return 0


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("system", "verb", "presets", "bundled", "parameters", "commercial_use", "measured"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        figures = [f"{m['metric']} {m['value']:.4g} (n {m['n']}, {m['set']} {m['fold']})" for m in row["measured"][:4]]
        size = f"{row['bytes'] / 1e6:.2f} MB" if row["bundled"] else "no"
        count = f"{row['parameters']:,}" if row["bundled"] else ""
        allowed = {True: "yes", False: "no", None: ""}[row["commercial_use"]]
        cells = (row["name"], row["verb"], ", ".join(row["presets"]), size, count, allowed, "\n".join(figures))
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    """Name, usable cores, threads that networks will use, and whether bfloat16 is computed natively (None where unknown)."""
    name, flags = platform.processor() or platform.machine(), None
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        info = ""
    for line in info.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
            break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "name": name,
        "cores": cores,
        "threads": int(threads) if threads.isdecimal() else cores,
        "bf16": None if flags is None else bool(flags & BFLOAT16_FLAGS),
    }


def _weights_files() -> list[Path]:
    from visagist import catalog

    return [file for row in catalog.SYSTEMS.values() for file in row.files.values()]


def _checked(file: Path, failures: list[VisagistError]) -> dict[str, Any]:
    """What is known of a weights file: layout and hash are checked; numbers are when it is loaded."""
    from visagist.weights.card import read_card
    from visagist.weights.store import read_header

    found: dict[str, Any] = {"file": file.name, "bytes": file.stat().st_size, "state": "sound"}
    try:
        card = read_card(file)
        found |= {"system": card.system, "sha256": card.sha256, "made": card.made.model_dump(mode="json")}
        read_header(file)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != card.sha256:
            raise WeightsError(
                "the file is not the one its card describes", code="wrong-hash", path=file, hint="install visagist again"
            )
    except WeightsError as error:
        found["state"] = error.code
        failures.append(error)
    return found


def _photo(name: str, max_pixels: int, failures: list[VisagistError]) -> dict[str, Any]:
    from visagist.photo.photo import Photo

    try:
        photo = Photo.open(name, max_pixels=max_pixels)
    except PhotoError as error:
        error.path = name
        failures.append(error)
        return {"photo": name, "error": {"code": error.code, "message": str(error)}}
    steps = [{"verb": s.verb, "system": s.system, "weights": s.weights, "settings": dict(s.settings)} for s in photo.history]
    return {
        "photo": name,
        "format": photo.format,
        "size": list(photo.size),
        "transparency": photo.alpha is not None,
        "profile": profile_name(photo.icc),
        "notes": list(photo.notes),
        "history": steps,
        "error": None,
    }


def profile_name(icc: bytes | None) -> str:
    """What a colour profile calls itself: the text of its "desc" tag (ICC.1 sections 7.3, 10.15; ICC.1:2001 section 6.5.17)."""
    if icc is None:
        return "sRGB (none in the file)"
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        tags = (struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 100)))
        at, length = next((offset, size) for name, offset, size in tags if name == b"desc")
        tag = icc[at : at + length]
        if tag[:4] == b"mluc":
            size, start = struct.unpack_from(">II", tag, 20)
            text = tag[start : start + size].decode("utf-16-be")
        else:
            (size,) = struct.unpack_from(">I", tag, 8)
            text = tag[12 : 12 + size].decode("ascii")
    except (struct.error, StopIteration, UnicodeDecodeError):
        return f"unnamed ({len(icc)} bytes)"
    return printable(text.rstrip("\0"))[:100] or f"unnamed ({len(icc)} bytes)"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    processor = report["processor"]
    native = {True: "native", False: "emulated, hence not used", None: "unknown"}[processor["bf16"]]
    yield f"visagist   {report['visagist']} on Python {report['python']}, {report['system']}"
    yield "packages   " + ", ".join(f"{name} {found or 'missing'}" for name, found in report["packages"].items())
    yield f"processor  {processor['name']}; {processor['cores']} cores, {processor['threads']} threads; bfloat16 {native}"
    yield f"gpu        {'NVIDIA driver found' if report['gpu'] else 'none found'}"
    for file in report["weights"]:
        made = f", sha256 {file['sha256'][:12]}, made {file['made']['date']}" if "made" in file else ""
        yield f"weights    {file['file']}: {file['state']}, {file['bytes'] / 1e6:.2f} MB{made}"
    if not report["weights"]:
        yield "weights    none came with this version"
    photo = report.get("photo")
    if photo is not None and photo["error"] is None:
        height, width = photo["size"]
        yield f"photo      {printable(photo['photo'])}"
        yield f"  format   {photo['format']}, {width} x {height} pixels{', with transparency' if photo['transparency'] else ''}"
        yield f"  profile  {photo['profile']}"
        for note in photo["notes"]:
            yield f"  note     {printable(note)}"
        for number, step in enumerate(photo["history"], 1):
            settings = ", ".join(f"{key} {value}" for key, value in step["settings"].items())
            weights = f" (weights {step['weights']})" if step["weights"] else ""
            yield f"  step {number}   " + printable(f"{step['verb']} by {step['system']}{weights}: {settings}")
        if not photo["history"]:
            yield "  history  no step of visagist is recorded in it"
