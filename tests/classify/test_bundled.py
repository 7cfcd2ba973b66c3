"""The weights that come with visagist, on a real cat; skipped where there are none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import visagist
from visagist import catalog
from visagist.classify.classifier import CIFAR10

pytestmark = pytest.mark.skipif(catalog.system("cifar-best").bundled is None, reason="no weights came with this version")


def test_a_cat_is_a_cat_also_mirrored() -> None:
    from skimage.data import chelsea

    found = visagist.classify(chelsea())
    assert found[0][0] == "cat" and found[0][1] > 0.6 and len(found) == 5
    mirrored = visagist.classify(np.ascontiguousarray(chelsea()[:, ::-1]), top=10)
    assert {name for name, _ in mirrored} == set(CIFAR10) and sum(score for _, score in mirrored) == pytest.approx(1)
    assert dict(mirrored)["cat"] == pytest.approx(found[0][1], abs=0.02)  # both views are in every answer


def test_the_card_says_what_was_measured() -> None:
    measured = {row.metric: row for row in catalog.load("cifar-best").card.measured}
    assert measured["accuracy"].n == 10000 and measured["accuracy"].value >= 0.91


@pytest.mark.parametrize("top", [0, -1, True, 1.5])
def test_top_is_a_whole_number_from_one(top: object) -> None:
    with pytest.raises(visagist.UsageError, match="whole number from 1"):
        visagist.classify(np.zeros((4, 4, 3), np.uint8), top=top)  # type: ignore[arg-type]


def test_loading_imports_no_compiler(tmp_path: Path) -> None:
    """Of a second: torch's compiler comes with many functions of tensors without memory, in which other weights are tried on."""
    row = catalog.system("cifar-best")
    assert row.bundled is not None
    for file in (row.bundled, row.bundled.with_suffix(".json")):
        shutil.copy(file, tmp_path / file.name)
    names = ["yolo", "landmarks68", "lipstick", str(tmp_path / row.bundled.name)]
    code = f"import sys\nfrom visagist import catalog\nfor name in {names!r}: catalog.load(name, 'cpu')\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print([m for m in ('torch._dynamo', 'scipy', 'skimage') if m in sys.modules])"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
