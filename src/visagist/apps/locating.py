"""Points for pictures that come without: a folder of photos for each person says who it is, and not where the face is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

log = logging.getLogger(__name__)


def located(items: Sequence[Any], device: str) -> list[Any]:
    """The items; those without points with those of the largest face in them. Where there is none they are left out and counted.

    TrainingError "bad-data" names damaged pictures before any face is looked for.
    """
    from visagist import api
    from visagist.training.data.pictures import warm

    warm([item for item in items if not any(face.points is not None for face in item.faces)])
    kept, faceless = [], []
    for item in items:
        if any(face.points is not None for face in item.faces):
            kept.append(item)
        elif faces := api.detect(item.photo, device=device):
            kept.append(replace(item, faces=api.landmarks(item.photo, faces[:1], device=device)))
        else:
            faceless.append(item.name)
    if faceless:
        log.warning("no face in %d of %d pictures, left out: %s", len(faceless), len(items), ", ".join(faceless[:5]))
    return kept
