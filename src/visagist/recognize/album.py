"""Who is in which picture: people, the clips in which they were taken, and all pictures by person."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from visagist.errors import TrainingError
from visagist.photo.face import Face
from visagist.recipe import Item

log = logging.getLogger(__name__)


def person_of(item: Item) -> str:
    """Who it is, spelt alike in all sets: the person, or the folder the picture lies in. TrainingError "bad-data" for nobody."""
    name = item.person or item.facts.get("class")
    if name is None:
        hint = "a folder for each person, or a column `identity`"
        raise TrainingError("nobody says who this is", code="bad-data", path=item.name, hint=hint)
    return str(name).casefold().replace("-", "_").replace(" ", "_")


def clip_of(item: Item) -> str:
    """What was taken at one time: frames of one video, renders of one picture. Pictures of one clip are not compared."""
    own = item.facts.get("video", item.facts.get("source"))
    return f"{person_of(item)}/{item.name if own is None else own}"


def face_of(item: Item) -> Face | None:
    """The face that is the person's: the first with points."""
    return next((face for face in item.faces if face.points is not None), None)


def is_made_up(item: Item, sets: Sequence[str] = ()) -> bool:
    """Whether it was made out of a photograph (`augment.py`), or is of a set of one of these names."""
    return "shape" in item.facts or item.facts.get("set") in sets


class Album:
    """Items by person: `labels` are the numbers of their people in the order of `names`; `people`, of photographs and of what is
    made up (`is_made_up`), the numbers of the items of each person who has any."""

    def __init__(self, items: Sequence[Item], made_up: Sequence[str] = ()) -> None:
        self.items, self.made_up = items, tuple(made_up)
        names = [person_of(item) for item in items]
        self.names = sorted(set(names))
        self.labels = np.searchsorted(self.names, names)
        kinds: tuple[dict[int, list[int]], ...] = ({}, {})
        for index, label in enumerate(self.labels.tolist()):
            kinds[is_made_up(items[index], made_up)].setdefault(label, []).append(index)
        self.people = [[own for _, own in sorted(kind.items())] for kind in kinds]
        self.all = [sorted(index for own in kind.values() for index in own) for kind in kinds]

    @classmethod
    def of(cls, items: Sequence[Item], made_up: Sequence[str] = ()) -> Album:
        """The album of these very items; the last one is kept, since every example asks for it."""
        if not _album or _album[0].items is not items or _album[0].made_up != tuple(made_up):
            _album[:] = [cls(items, made_up)]
        return _album[0]


def apart(items: Sequence[Item], validation: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """What is learnt from and what is measured on, nobody in both. Whoever is measured on is not learnt from, under whatever name
    of a set; where that left fewer than two people to learn from, those who are learnt from are not measured on."""
    learnt, measured = ({person_of(item) for item in part} for part in (items, validation))
    shared = learnt & measured
    if not shared:
        return items, validation
    if len(learnt - shared) < 2:
        return items, [item for item in validation if person_of(item) not in shared]
    kept = [item for item in items if person_of(item) not in shared]
    log.warning("%d pictures of %d people who are measured on are not learnt from", len(items) - len(kept), len(shared))
    return kept, validation


_album: list[Album] = []
