"""People for the embeddings to tell apart."""

from __future__ import annotations

import dataclasses

import pytest

from visagist.recipe import Item
from visagist.training.data.made_up import items as drawn


@pytest.fixture(scope="package")
def items() -> list[Item]:
    """Six drawn people, six pictures of each; each picture drawn once."""
    made = []
    for item in drawn(36, seed=3, people=6, size=64):
        photo = item.photo
        made.append(dataclasses.replace(item, load=lambda photo=photo: photo))
    return made
