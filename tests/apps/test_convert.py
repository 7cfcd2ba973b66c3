"""`visagist convert`: weights of other programs in, weights files of ours out; hostile files named in one line."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from visagist import catalog
from visagist.apps.cli import app
from visagist.stylize.brought import FeatureNetwork, known_as


class Outcome:
    def __init__(self, *arguments: object) -> None:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """The command line without the fakes of this folder: what is written is loaded."""
    return Outcome


def theirs(network: str = "squeezenet1_1", convention: str = "torchvision") -> dict[str, torch.Tensor]:
    """Small random weights under the names of torchvision or Caffe."""
    net: Any = FeatureNetwork(network=network, convention=convention).networks()["features"]
    convolutions = [part for part in net.modules() if isinstance(part, torch.nn.Conv2d)]
    column = 0 if convention == "caffe" else -1
    made = {}
    for names, conv in zip(known_as(net), convolutions, strict=True):
        made[f"{names[column]}.weight"] = torch.randn(conv.weight.shape).half().float()
        made[f"{names[column]}.bias"] = torch.randn(conv.out_channels)
    return made


def first(network: Any) -> torch.Tensor:
    return next(part.weight for part in network.modules() if isinstance(part, torch.nn.Conv2d))


@pytest.mark.parametrize("kind", ["safetensors", "pth", "checkpoint.pt"])
def test_files_of_pytorch_become_weights_of_ours(kind: str, run: Callable[..., Outcome], here: Path) -> None:
    weights = theirs()
    source = f"squeezenet.{kind}"
    if kind == "safetensors":
        save_file(weights, source)
    else:
        torch.save({"state_dict": weights} if "checkpoint" in kind else weights, source)
    done = run("convert", source, "--network", "squeezenet1_1", "--licence", "BSD-3-Clause")
    assert done.code == 0, done.err
    assert "722,496 parameters" in done.out
    loaded = catalog.features("squeezenet1_1", "cpu")  # the file lies where the name is looked for
    assert loaded.card.trained_on[0].licence == "BSD-3-Clause"
    torch.testing.assert_close(first(loaded.nets["features"]).float(), weights["features.0.weight"], rtol=1e-2, atol=1e-2)
    assert run("convert", source, "--network", "squeezenet1_1").code == 3
    assert run("convert", source, "--network", "squeezenet1_1", "--overwrite").code == 0


# ---- .caffemodel, written by hand as caffe.proto says


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(values: torch.Tensor, old: bool) -> bytes:
    data = field(5, values.numpy().astype("<f4").tobytes())
    shape = list(values.shape)
    if old:
        four = [1] * (4 - len(shape)) + shape
        return b"".join(field(i, n) for i, n in enumerate(four, 1)) + data
    return field(7, field(1, b"".join(map(varint, shape)))) + data


def caffemodel(weights: dict[str, torch.Tensor], old: bool) -> bytes:
    """NetParameter: its name, then layers (100: name 1, type 2, blobs 7), or those of the first format (2: name 4, blobs 6)."""
    number, name_at, blobs_at = (2, 4, 6) if old else (100, 1, 7)
    out = field(1, b"a network")
    for name in dict.fromkeys(k.rpartition(".")[0] for k in weights):
        layer = field(name_at, name.encode()) + b"".join(
            field(blobs_at, blob(weights[f"{name}.{k}"], old)) for k in ("weight", "bias")
        )
        out += field(number, layer)
    return out


@pytest.mark.parametrize("old", [False, True])
def test_files_of_caffe_are_read_without_caffe(old: bool, run: Callable[..., Outcome], here: Path) -> None:
    weights = theirs("caffenet", "caffe")
    weights["fc6.weight"], weights["fc6.bias"] = torch.ones(4, 4), torch.ones(4)
    Path("net.caffemodel").write_bytes(caffemodel(weights, old))
    done = run("convert", "net.caffemodel", "--network", "caffenet", "-o", "caffe.safetensors")
    assert done.code == 0, done.err
    loaded = catalog.features("caffe.safetensors", "cpu")
    torch.testing.assert_close(first(loaded.nets["features"]).float(), weights["conv1.weight"], rtol=1e-2, atol=1e-2)


# ---- what is refused


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def hostile() -> dict[str, bytes]:
    sound = caffemodel({"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2)}, False)
    return {
        "evil.pth": pickle.dumps({"features.0.weight": Evil()}),
        "noise.pth": np.random.default_rng(0).bytes(400),
        "empty.pth": b"",
        "text.safetensors": b"not one",
        "cut.caffemodel": sound[:-3],
        "noise.caffemodel": np.random.default_rng(1).bytes(400),
        "long.caffemodel": b"\xff" * 40,
        "number.caffemodel": field(100, 7),
        "huge.safetensors": struct.pack("<Q", 1 << 60) + b"{}",
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_files_are_one_line_and_run_nothing(name: str, run: Callable[..., Outcome], here: Path) -> None:
    Path(name).write_bytes(hostile()[name])
    done = run("convert", name, "--network", "vgg16")
    assert done.code == 2, done.err
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith(f"{name}: [")
    assert sorted(p.name for p in here.iterdir()) == [name]


def test_wrong_networks_conventions_and_places(run: Callable[..., Outcome], here: Path) -> None:
    torch.save(theirs(), "squeezenet.pth")
    for arguments, said in (
        (("squeezenet.pth", "--network", "vgg19"), "another network"),
        (("squeezenet.pth", "--network", "vgg11"), "vgg11"),
        (("squeezenet.pth", "--network", "squeezenet1_1", "--convention", "keras"), "convention"),
        (("squeezenet.pth", "--network", "squeezenet1_1", "-o", "a.pth"), "written as .safetensors"),
        (("nowhere.pth", "--network", "vgg19"), "No such file"),
    ):
        done = run("convert", *arguments)
        assert done.code == 2, done.err
        assert said in done.err
    weights = theirs()
    weights["features.0.bias"][3] = float("nan")
    torch.save(weights, "nan.pth")
    done = run("convert", "nan.pth", "--network", "squeezenet1_1")
    assert (done.code, "NaN" in done.err) == (2, True)
    assert not list(here.glob("*.safetensors"))
