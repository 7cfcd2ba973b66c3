"""The face sheet learns composed scenes of drawn faces: by heart, and well enough for scenes it has not seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "composites.py"


@pytest.mark.long
def test_the_face_sheet_learns_composites(tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARK, "--out", tmp_path, "--only", "sheet", "--steps", "1500"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    by_heart, composed = (json.loads(line)["sheet"] for line in done.stdout.splitlines())
    assert by_heart["by_heart"]["seen"]["n_photos"] == 50
    assert by_heart["by_heart"]["seen"]["ap50"] >= 0.95
    assert composed["scenes"]["unseen"]["n_photos"] == 200
    assert composed["scenes"]["unseen"]["ap50"] >= 0.80
