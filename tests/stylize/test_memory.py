"""Memory that is said in advance against what a process of its own grows by, with the bundled weights."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from visagist import catalog
from visagist.errors import PhotoError
from visagist.photo.photo import Photo
from visagist.stylize import canvas
from visagist.stylize.fast_style import FastStyle
from visagist.stylize.features import VGG19, GoogLeNet
from visagist.stylize.gatys import Gatys
from visagist.stylize.reader import Reader

# Prints how many bytes a run takes as said in advance, and by how many the process grew. A small run comes first: libraries.
MEASURED = """
import sys
from pathlib import Path
from visagist.apps import process
process.settle()
import numpy as np, torch
from visagist import catalog
from visagist.photo.photo import Photo
from visagist.stylize.gatys import Gatys

kind, size = sys.argv[1], int(sys.argv[2])
photo = Photo.of(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))
style = Photo.open(catalog.painting("starry-night")).pixels
said = []
if kind == "fast-style":
    painter = catalog.load("fast-style-starry-night", "cpu")
    said.append(painter.recipe.memory_for((size, size), photo.size))
    def work(size):
        with torch.inference_mode():
            painter.recipe.stylize(painter.nets, photo, size=size)
else:
    features, asked = catalog.features("perceptual", "cpu"), Gatys.memory_for
    def noted(*given, **named):
        said.append(asked(*given, **named))
        return said[-1]
    Gatys.memory_for = noted
    more = {"coarsest": 0} if kind == "default" else {"capped": True}
    def work(size):
        recipe = catalog.recipe("gatys", kind, size=size, iterations=11, **more)
        recipe.stylize(features.nets, photo, [style], half=features.half, available=1e12)
work(32)
Path("/proc/self/clear_refs").write_text("5")
before = process.resident()
work(size)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(said[-1], int(peak.split()[1]) * 1024 - before)
"""


def linux_tells() -> bool:
    """Whether this system says how much memory a process took at most, and lets that be counted anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not linux_tells(), reason="only Linux tells a peak that can be counted anew")
@pytest.mark.parametrize(("kind", "size"), [("default", 192), ("seed", 192), ("fast-style", 320)])
def test_memory_is_said_in_advance(kind: str, size: int) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURED, kind, str(size)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-500:]
    said, grown = map(float, done.stdout.split())
    assert grown <= said <= 3 * grown


@pytest.fixture(scope="module")
def huge() -> Photo:
    """A hundred megapixels of nothing, whose memory the system need not even provide."""
    pixels = np.zeros((10_000, 10_000, 3), np.uint8)
    pixels.setflags(write=False)
    return Photo.of(pixels)


def peak(work: Callable[[], object]) -> int:
    """Bytes of arrays that this took at most; those of torch are not counted."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_hundred_megapixels_take_no_more_than_the_result(huge: Photo) -> None:
    painter = {"painter": FastStyle().networks()["painter"].eval()}
    with torch.inference_mode():
        assert peak(lambda: FastStyle().stylize(painter, huge, size=64, available=50e6)) < 10e6
    features = {"features": catalog.load("perceptual", "cpu").nets["features"]}
    recipe = Gatys(size=64, iterations=1)
    assert peak(lambda: recipe.stylize(features, huge, [huge.pixels], available=50e6)) < 10e6


def test_a_hundred_megapixels_at_their_own_size_are_refused(huge: Photo) -> None:
    nets: dict[str, nn.Module] = {"painter": FastStyle().networks()["painter"]}
    with pytest.raises(PhotoError, match=r"10000x10000 takes about .* --size \d+ would fit"):
        FastStyle().stylize(nets, huge, size=0, available=10e9)
    nets = {"features": catalog.load("perceptual", "cpu").nets["features"]}
    with pytest.raises(PhotoError, match=r"10000x10000 takes about .* --size \d+ would fit"):
        Gatys(size=0).stylize(nets, huge, [huge.pixels[:64, :64]], available=10e9)


def test_a_photo_that_is_made_larger_is_counted_once_and_one_made_smaller_not_at_all() -> None:
    recipe = FastStyle()
    assert recipe.memory_for((100, 100), (9000, 9000)) == recipe.memory_for((100, 100), (100, 100))
    assert recipe.memory_for((100, 100), (50, 50)) < recipe.memory_for((100, 100), (100, 100))


def test_what_styles_layers_and_methods_take_is_counted() -> None:
    net = VGG19()
    reader = Reader(net, (*net.style, *net.content), torch.float32, torch.device("cpu"))
    size, recipe = (384, 512), Gatys()
    least = recipe.memory_for(reader, size, 1024)
    assert recipe.memory_for(reader, size, 1024, content=["conv1_1"]) - least >= 4 * 64 * 384 * 512
    assert recipe.memory_for(reader, size, 1024, styles=[(5000, 6000)] * 2) - least >= 2 * 3 * 12 * 5000 * 6000
    assert Gatys(method="scipy").memory_for(reader, size, 1024) - least >= 8 * 3 * 384 * 512 * (2 * 10 + 5) / 2
    large: Any = {"features": net}
    photo, style = Photo.of(np.zeros((48, 64, 3), np.uint8)), np.zeros((30, 40, 3), np.uint8)
    with pytest.raises(PhotoError, match="a smaller style_scale|would fit"):
        Gatys(style_scale=20.0).stylize(large, photo, [style], available=3e9)


def test_every_branch_of_a_network_is_counted() -> None:
    net = GoogLeNet()
    reader = Reader(net, ("inception_3a/output",), torch.float32, torch.device("cpu"))
    outputs = 64 / 4 + 64 / 16 + 64 / 16 + 192 / 16 + 192 / 64  # the two convolutions before, and the pools between
    branches = (64 + 96 + 128 + 16 + 32 + 192 + 32 + 256) / 64  # with the pool and all of them together
    indices = 2 * (64 / 16 + 192 / 64 + 192 / 64)  # as int64
    assert reader.held == pytest.approx(outputs + branches + indices, rel=0.1)


def test_colours_are_matched_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    style, content = (rng.uniform(-1, 1, (40, 50, 3)).astype(np.float32) * scale for scale in (0.3, 0.5))
    whole = canvas.recoloured(style, content)
    monkeypatch.setattr(canvas, "PIECE", 77)
    np.testing.assert_allclose(canvas.recoloured(style, content), whole, atol=1e-6)
    flat = np.zeros((2048, 2048, 3), np.float32)
    monkeypatch.undo()
    assert peak(lambda: canvas.recoloured(flat, content)) < 3 * flat.nbytes
