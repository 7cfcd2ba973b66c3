"""A folder of a thousand pictures within ten seconds on two processor cores."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from visagist.classify.cifar_best import Best
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.loop import train


@pytest.mark.long
def test_a_thousand_pictures_take_ten_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(1000):
        Photo.of(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{i:04d}.png")
    items = [Item(f"{i}.png", lambda: Photo.of(np.zeros((32, 32, 3), np.uint8)), label=i % 10) for i in range(10)]
    weights = train(Best(epochs=1, batch=10, part=10), items, tmp_path / "run", system="cifar-best", workers=0, quiet=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", "visagist", "classify", tmp_path / "in", "--model", weights, "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1000 and all(len(json.loads(line)["classes"]) == 5 for line in lines[:3])
    assert seconds <= 10, seconds
