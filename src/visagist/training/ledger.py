"""The folder of one training run, and how its state is written so that nothing is ever half-written.

    settings.json           what the run was asked to do; a resumed run must ask the same
    log.jsonl               one line per logged step, measurement or fit
    sheets/*.png            previews
    checkpoint.safetensors  tensors by name, everything else as JSON in the file's header; replaced in one piece
    weights.safetensors     the networks that ship, with weights.json, their card, beside it

No file here is a pickle: reading a run folder executes nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.errors import OutputError, TrainingError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
FORMAT = 1


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside `path`, flush it to the disk, then rename: readers see the old or the new."""
    draft = path.with_name(f".{path.name}.part")
    try:
        write(draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        draft.chmod(0o666 & ~mask)  # safetensors makes private files
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutputError(f"cannot be written ({error.strerror or error})", code="unwritable", path=path) from error


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Nested dicts, lists and tuples of scalars and tensors as JSON; the tensors go to `tensors`, under names from `name`.

    A tensor's memory layout is kept too: arithmetic on another layout may differ in the last bit.
    """
    import torch

    if isinstance(value, torch.Tensor):
        last = value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name, "channels_last": last}
    if isinstance(value, Mapping):
        return {"dict": [[key, pack(entry, f"{name}/{key}", tensors)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [pack(entry, f"{name}/{i}", tensors) for i, entry in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot be put into a checkpoint")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given."""
    import torch

    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor.contiguous(memory_format=torch.channels_last) if value["channels_last"] else tensor
    if "dict" in value:
        return {key: unpack(entry, tensors) for key, entry in value["dict"]}
    if "list" in value:
        return [unpack(entry, tensors) for entry in value["list"]]
    return tuple(unpack(entry, tensors) for entry in value["tuple"])


class Ledger:
    """One run folder. A silent one, of a process that is not the first, writes nothing."""

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        self.folder = folder
        self.silent = silent

    def begin(self, settings: Mapping[str, Any], *, resume: bool) -> dict[str, Any] | None:
        """Make the folder, or check that a run in it can go on. Returns the state of its checkpoint, None for a fresh start.

        UsageError (output-clash) if the folder holds a run and `resume` is false; TrainingError (cannot-resume) if it was
        started with other settings or data.
        """
        file = self.folder / "settings.json"
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they will be when read back
        if (self.folder / CHECKPOINT).exists():
            if not resume:
                hint = "resume it or choose another folder"
                raise UsageError("holds a training already", code="output-clash", path=self.folder, hint=hint)
            self._compare(file, settings)
            state = self.read_checkpoint()
            self._rewind_log(state["stage"], state["step"])
            return state
        if self.silent:
            return None
        try:
            (self.folder / "sheets").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot be made ({error.strerror})", code="unwritable", path=self.folder) from error
        replace_file(file, lambda path: path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n"))
        (self.folder / "log.jsonl").unlink(missing_ok=True)
        return None

    def _compare(self, file: Path, settings: Mapping[str, Any]) -> None:
        try:
            old = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise TrainingError("the run's settings cannot be read", code="cannot-resume", path=file) from error
        free = {"command", "threads", "device"}  # may change; results then agree only as far as arithmetic does
        for key in sorted((old.keys() | settings.keys()) - free):
            if old.get(key) != settings.get(key):
                what = f"the run was started with other {key}: {_difference(old.get(key), settings.get(key))}"
                raise TrainingError(what, code="cannot-resume", path=self.folder, hint="use the same or another folder")

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by this state: nested dicts, lists, tuples of scalars and tensors."""
        from safetensors.torch import save_file

        if self.silent:
            return
        tensors: dict[str, Tensor] = {}
        # One entry, because safetensors writes several in any order: the same state gives the same bytes.
        header = {"visagist": json.dumps({"format": FORMAT, "state": pack(state, "state", tensors)})}
        replace_file(self.folder / CHECKPOINT, lambda path: save_file(tensors, path, metadata=header))

    def read_checkpoint(self) -> dict[str, Any]:
        """The state last written. TrainingError (cannot-resume) if the file is damaged."""
        from safetensors import SafetensorError, safe_open

        path = self.folder / CHECKPOINT
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["visagist"])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if header["format"] != FORMAT:
                raise TrainingError("the checkpoint is of another format", code="cannot-resume", path=path)
            state: dict[str, Any] = unpack(header["state"], tensors)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise TrainingError(f"the checkpoint is damaged ({error})", code="cannot-resume", path=path) from error
        return state

    def log(self, **line: Any) -> None:
        """Append one line to log.jsonl; what is not finite is written as null."""
        if self.silent:
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: _plain(value) for key, value in line.items()}) + "\n")

    def _rewind_log(self, stage: int, step: int) -> None:
        """Drop lines later than a checkpoint, which the resumed run will write again, and a line cut off by a crash."""
        if self.silent:
            return
        path = self.folder / "log.jsonl"
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if (entry["stage"], entry["step"]) <= (stage, step):
                kept.append(line + "\n")
        replace_file(path, lambda draft: draft.write_text("".join(kept), encoding="utf-8"))

    def sheet(self, name: str, pixels: np.ndarray) -> None:
        """Write a preview, uint8 [H, W, 3], as sheets/NAME.png."""
        from visagist.photo.photo import Photo

        Photo.of(pixels).save(self.folder / "sheets" / f"{name}.png", overwrite=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        return ", ".join(f"{k} {old.get(k)} -> {new.get(k)}" for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k))
    return f"{old} -> {new}"
