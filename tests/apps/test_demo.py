from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visagist import catalog
from visagist.photo.photo import Photo, read_history

Run = Callable[..., Any]
WHOLE = all(catalog.SYSTEMS[name].bundled is not None for name in ("yolo", "landmarks68", "lipstick"))


def test_the_sheet_is_written_again_but_never_over_a_foreign_file(here: Path, run: Run, calls: dict[str, int]) -> None:
    assert run("demo", "--quiet").code == 0
    assert [step.verb for step in read_history("visagist-demo.png")] == ["makeup"]
    assert Photo.open("visagist-demo.png").size[1] > 1000
    assert calls == {"detect": 1, "landmarks": 1, "makeup": 3}
    assert run("demo").code == 0
    Path("mine.png").write_text("a thing of mine")
    done = run("demo", "-o", "mine.png")
    assert (done.code, done.err.startswith("mine.png: [exists] ")) == (3, True)
    assert Path("mine.png").read_text() == "a thing of mine"
    assert run("demo", "-o", "mine.png", "--overwrite").code == 0


@pytest.mark.skipif(not WHOLE, reason="some weights are not bundled yet")
def test_the_whole_way_on_a_real_portrait(here: Path, astronaut: np.ndarray) -> None:
    """As a user has it: a process, the bundled weights, files."""
    Image.fromarray(astronaut).save("in.jpg", quality=92)
    Image.fromarray(astronaut[300:, 350:]).save("nobody.png")

    def visagist(*arguments: str, code: int = 0) -> list[dict[str, Any]]:
        done = subprocess.run([sys.executable, "-m", "visagist", *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    seen, empty = visagist("landmarks", "--json", "in.jpg", "nobody.png")
    (face,) = seen["faces"]
    x0, y0, x1, y1 = face["box"]
    assert x0 < 225 < x1  # her nose
    assert y0 < 125 < y1
    assert len(face["points"]) == 68
    assert abs(face["pose"]["yaw"]) < 25
    assert empty["faces"] == []

    painted, failed = visagist("makeup", "--json", "--finish", "glossy", "in.jpg", "nobody.png", code=1)
    assert failed["error"]["code"] == "no-face"
    before, after = Photo.open("in.jpg"), Photo.open(painted["out"])
    lips = np.array(face["points"])[48:68]
    x, y = lips.mean(0).astype(int)
    near = (slice(y - 25, y + 25), slice(x - 35, x + 35))
    changed = np.abs(after.pixels.astype(int) - before.pixels)
    assert changed[near].max() > 20
    changed[near] = 0
    assert changed.mean() < 1.5  # the JPEG was written twice, nothing else happened
    assert after.history[0].weights
