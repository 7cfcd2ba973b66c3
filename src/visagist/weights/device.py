"""Where networks run, and in which precision: choose a device, make loaded networks ready for use on it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn


def choose(name: str = "auto") -> torch.device:
    """The device named "auto", "cpu", "cuda" or "cuda:N". Only "auto" may fall back to the CPU. UsageError "no-device"."""
    import torch

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if name != "auto" and (kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":")):
        raise UsageError(f"there is no device {name!r}", code="no-device", hint="choose auto, cpu or cuda")
    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        hint = "use --device cpu, or install a torch built for CUDA"
        raise UsageError(f"the device {name} is not available here", code="no-device", hint=hint)
    return torch.device("cuda", int(number or 0))


def quick_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware. Where it does not, bfloat16 is emulated and slower than float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # oneDNN answers True on every AVX-512 machine, native or not; the instruction sets decide.
    native = any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return native and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def available(device: torch.device) -> float:
    """Bytes of memory that may be used there: four fifths of what is free, infinite where nobody knows."""
    import torch

    if device.type == "cuda":
        return 0.8 * torch.cuda.mem_get_info(device)[0]
    found = [_free_of_system(), _free_of_group()]
    return 0.8 * min(found)


def _free_of_system() -> float:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return math.inf


def _free_of_group() -> float:
    """Where a container has a limit of its own (control groups, version 2)."""
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        return math.inf if limit == "max" else max(0.0, float(limit) - float(used))
    except (OSError, ValueError):
        return math.inf


def prepare(net: nn.Module, device: torch.device, *, exact: bool = False) -> nn.Module:
    """Make a network ready for use, in place: on the device, evaluating, frozen, channels_last, batch norms folded away.

    Afterwards the network takes inputs from any device and gives float32 on its own. Inside it bfloat16 is used where the
    device is quick at it, unless `exact`. The precision belongs to the network, so geometry around it stays in float32 and
    what `evaluate` measures is what users get. A part of a network that needs float32 (coordinates, soft-argmax) opens
    `torch.autocast(x.device.type, enabled=False)` itself.
    """
    import torch

    net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.eval().requires_grad_(False)
    half = not exact and quick_bfloat16(device)
    _fold(net, torch.bfloat16 if half else torch.float32)
    forward = net.forward

    @functools.wraps(forward)
    def in_use(*inputs: Any, **named: Any) -> Any:
        inputs, named = _each(inputs, lambda t: _entering(t, device)), _each(named, lambda t: _entering(t, device))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            outputs = forward(*inputs, **named)
        return _each(outputs, lambda t: t.float() if t.dtype == torch.bfloat16 else t)

    net.forward = in_use
    return net


def _fold(net: nn.Module, dtype: torch.dtype) -> None:
    """Multiply every batch norm that follows a convolution in an `nn.Sequential` into the convolution, in place.

    A ReLU behind it is computed with it. A max pool may lie between: the largest of some numbers stays the largest when all are
    multiplied by a positive factor. The product is kept in the precision in which it is used, or autocast would convert it at
    every look.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from visagist.weights.fused import ConvReLU

    for sequence in [part for part in net.modules() if isinstance(part, torch.nn.Sequential)]:
        for i in range(len(sequence) - 1):
            pooled = i + 2 < len(sequence) and type(sequence[i + 1]) is torch.nn.MaxPool2d
            convolution, norm = sequence[i], sequence[i + 1 + pooled]
            if type(convolution) is not torch.nn.Conv2d or type(norm) is not torch.nn.BatchNorm2d or norm.running_var is None:
                continue
            if pooled and norm.weight is not None and (norm.weight < 0).any():
                continue
            folded = fuse_conv_bn_eval(convolution, norm).to(dtype)
            sequence[i], sequence[i + 1 + pooled] = folded, torch.nn.Identity()
            if not pooled and i + 2 < len(sequence) and type(sequence[i + 2]) is torch.nn.ReLU:
                sequence[i], sequence[i + 2] = ConvReLU.of(folded), torch.nn.Identity()


def _entering(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    import torch

    return tensor.to(device, memory_format=torch.channels_last if tensor.dim() == 4 else torch.preserve_format)


def _each(value: Any, change: Any) -> Any:
    """The value with every tensor in it changed: tensors, tuples (also named), lists, dicts of them."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(v, change) for key, v in value.items()}
    if isinstance(value, tuple):
        made = [_each(v, change) for v in value]
        return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    if isinstance(value, list):
        return [_each(v, change) for v in value]
    return value
