"""The weights that come with visagist, on a real cat; skipped where there are none."""

from __future__ import annotations

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
