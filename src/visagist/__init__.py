"""visagist: what papers do to photographs of faces, as functions and commands that work offline.

    import visagist

    visagist.detect("holiday.jpg")                                   # faces: boxes and scores
    visagist.landmarks("holiday.jpg")                                # with 68 points and head pose
    visagist.makeup("me.jpg", finish="glossy").save("me.makeup.jpg")
    visagist.stylize("me.jpg", "starry-night").save("me.painted.jpg")
    visagist.rotate("me.jpg", yaw=-20).save("me.rotate.jpg")         # the head turned
    visagist.recognize("one.jpg", "other.jpg").same                  # is it the same person?
    visagist.classify("pet.jpg")                                     # (("cat", 0.87), ("dog", 0.05), ...)

The names in `__all__` are public, nothing else is. They are imported on use: `import visagist` alone takes a few milliseconds.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visagist.api import classify, detect, identify, landmarks, makeup, recognize, relief, rotate, stylize
    from visagist.catalog import load
    from visagist.errors import (
        FaceError,
        OutputError,
        PhotoError,
        TrainingError,
        UsageError,
        VisagistError,
        WeightsError,
    )
    from visagist.photo.face import Face
    from visagist.photo.photo import Photo
    from visagist.training.evaluate import evaluate
    from visagist.training.loop import train

__all__ = [
    "Face",
    "FaceError",
    "OutputError",
    "Photo",
    "PhotoError",
    "TrainingError",
    "UsageError",
    "VisagistError",
    "WeightsError",
    "__version__",
    "classify",
    "detect",
    "evaluate",
    "identify",
    "landmarks",
    "load",
    "makeup",
    "recognize",
    "relief",
    "rotate",
    "stylize",
    "train",
]

_HOMES = {
    "visagist.api": ("classify", "detect", "identify", "landmarks", "makeup", "recognize", "relief", "rotate", "stylize"),
    "visagist.catalog": ("load",),
    "visagist.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "visagist.photo.face": ("Face",),
    "visagist.photo.photo": ("Photo",),
    "visagist.training.evaluate": ("evaluate",),
    "visagist.training.loop": ("train",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("visagist")
        except PackageNotFoundError:  # run from a source tree that is not installed
            value = "0+source"
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'visagist' has no attribute {name!r}")
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Front(ModuleType):
    """A room's package carries the name of its verb. Importing the room would put the package in the place of the function;
    the name keeps meaning the function, and rooms are reached by `from visagist.detect.yolo import Yolo`."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Front
