"""Who is in which picture: people, the clips in which they were taken, and all pictures by person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visagist.errors import TrainingError
from visagist.photo.face import Face
from visagist.recipe import Item


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


class Album:
    """Items by person: `labels` are the numbers of their people in the order of `names`; `people`, of photographs and of what was
    made out of them (`augment.py`), the numbers of the items of each person who has any."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        names = [person_of(item) for item in items]
        self.names = sorted(set(names))
        self.labels = np.searchsorted(self.names, names)
        kinds: tuple[dict[int, list[int]], ...] = ({}, {})
        for index, label in enumerate(self.labels.tolist()):
            kinds["shape" in items[index].facts].setdefault(label, []).append(index)
        self.people = [[own for _, own in sorted(kind.items())] for kind in kinds]
        self.all = [sorted(index for own in kind.values() for index in own) for kind in kinds]

    @classmethod
    def of(cls, items: Sequence[Item]) -> Album:
        """The album of these very items; the last one is kept, since every example asks for it."""
        if not _album or _album[0].items is not items:
            _album[:] = [cls(items)]
        return _album[0]


_album: list[Album] = []
