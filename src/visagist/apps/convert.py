"""`visagist convert`: what other programs wrote becomes files of ours that are safe to read, once, before any use.

A folder of CIFAR's pickled pictures becomes one of binary files (`training.data.cifar_pickles`). Weights of feature networks become
weights files; read are .safetensors, .pth and .pt (PyTorch's restricted reader, which runs no code of the file) and .caffemodel (a
reader of our own for the few fields that hold weights). Nothing else in visagist opens such files.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.errors import OutputError, UsageError, VisagistError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 4 << 30  # bytes of a file that are read


def convert(source: str, *, network: str, convention: str, out: str | None, licence: str, overwrite: bool) -> int:
    """Write the weights file and its card, or the binary pictures; prints where. Returns the exit code."""
    from visagist import catalog
    from visagist.weights import store

    if os.path.isdir(source):
        return _pictures(Path(source), out, overwrite)
    if not network:
        raise UsageError("weights of which network?", code="usage", path=source, hint="name it with --network")
    target = Path(out or f"{network}{store.SUFFIX}")
    if target.suffix != store.SUFFIX:
        raise UsageError(f"weights are written as {store.SUFFIX}", code="usage", path=target)
    if os.path.lexists(target) and not overwrite:
        raise OutputError("the file exists already", code="exists", path=target, hint="--overwrite replaces it")
    recipe: Any = catalog.recipe("features", network, **({"convention": convention} if convention else {}))
    try:
        state = recipe.adopted(tensors_of(source))
    except WeightsError as error:
        error.path = error.path or source
        raise
    settings = catalog.settings_of(recipe, network)
    command = f"visagist convert {os.path.basename(source)} --network {network}" + (
        f" --convention {convention}" if convention else ""
    )
    store.save(
        target,
        state,
        system="features",
        settings=settings,
        input="RGB in [-1,1]; what the network wants is made inside",
        paper=catalog.system("features").paper,
        command=command,
        commercial_use=False,
        trained_on=({"set": "as its trainers say (usually ImageNet)", "count": 0, "licence": licence},),
        limits=("brought by a user; its origin was not checked",),
    )
    print(f"{target}: {network}, {sum(v.numel() for v in state.values()):,} parameters; use it with --features {target}")
    return 0


def _pictures(source: Path, out: str | None, overwrite: bool) -> int:
    """Pickled pictures as binary files, in the folder `out` or in one beside the source."""
    from visagist.training.data import cifar_pickles

    written = cifar_pickles.convert(source, Path(out or f"{source.resolve()}-binary"), overwrite=overwrite)
    print("\n".join(os.fspath(path) for path in written))
    return 0


def tensors_of(source: str) -> dict[str, Tensor]:
    """All tensors in a file of weights, by name. WeightsError: missing, not-weights, unreadable, not-finite."""
    import torch

    try:
        size = os.path.getsize(source)
        with open(source, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror or error})", code="missing", path=source) from None
    if size > LARGEST:
        raise WeightsError(f"larger than {LARGEST >> 30} GB", code="too-large", path=source)
    try:
        if source.endswith(".caffemodel"):
            tensors = _of_caffe(Path(source).read_bytes())
        elif len(start) == 8 and struct.unpack("<Q", start)[0] < size and source.endswith(".safetensors"):
            from safetensors.torch import load_file

            tensors = load_file(source)
        else:
            loaded = torch.load(source, map_location="cpu", weights_only=True)
            inner = next(
                (loaded[k] for k in ("state_dict", "model") if isinstance(loaded, dict) and isinstance(loaded.get(k), dict)), loaded
            )
            tensors = {str(k): v for k, v in inner.items() if isinstance(v, torch.Tensor)} if isinstance(inner, dict) else {}
    except VisagistError:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes the readers say
        what = (
            f"not a file of weights that can be read ({str(error).splitlines()[0][:100] if str(error) else type(error).__name__})"
        )
        hint = "give a .safetensors, .pth (a plain state dict) or .caffemodel"
        raise WeightsError(what, code="not-weights", path=source, hint=hint) from None
    if not tensors:
        raise WeightsError("no tensors are in this file", code="not-weights", path=source)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{name[:60]} holds NaN or infinite numbers", code="not-finite", path=source)
    return tensors


# ---- .caffemodel: a protocol buffer, of which only layers, their names and blobs are looked at (caffe.proto, NetParameter)


def _of_caffe(data: bytes) -> dict[str, Tensor]:
    """ "conv1_1.weight" and so on: first blob of a layer its weights, second its biases."""
    tensors: dict[str, Tensor] = {}
    for number, layer in _fields(memoryview(data)):
        if number not in (100, 2) or not isinstance(layer, memoryview):  # layer; layers of the first format
            continue
        name, blobs = "", []
        where = {100: (1, 7), 2: (4, 6)}[number]
        for inner, value in _fields(layer):
            if inner == where[0] and isinstance(value, memoryview):
                name = bytes(value).decode(errors="replace")
            elif inner == where[1] and isinstance(value, memoryview):
                blobs.append(_blob(value))
        for kind, blob in zip(("weight", "bias"), blobs):
            tensors[f"{name}.{kind}"] = blob
    return tensors


def _blob(data: memoryview) -> Tensor:
    import numpy as np
    import torch

    shape: list[int] = []
    old = {1: 1, 2: 1, 3: 1, 4: 1}  # num, channels, height, width
    values: list[Any] = []
    for number, value in _fields(data):
        if number == 5 and isinstance(value, memoryview):  # float data, packed
            values.append(np.frombuffer(value, "<f4"))
        elif number == 7 and isinstance(value, memoryview):
            for inner, dim in _fields(value):
                if inner == 1:
                    shape += [dim] if isinstance(dim, int) else list(_varints(dim))
        elif number in old and isinstance(value, int):
            old[number] = value
    numbers = np.concatenate(values) if values else np.zeros(0, np.float32)
    return torch.from_numpy(numbers.reshape(shape or list(old.values())).copy())


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for count in range(10):
        byte = data[place + count]
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, place + count + 1
    raise ValueError("a number without an end")


def _varints(data: memoryview) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in order: number, and a number or the bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(data, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + length > len(data):
            raise ValueError("the file ends inside a field")
        yield key >> 3, data[place : place + length]
        place += length
