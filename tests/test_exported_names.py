"""The public front: which names, that they are light, and that a room never takes the place of its verb."""

import subprocess
import sys

import pytest

import visagist


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_names_are_sorted_and_there():
    assert visagist.__all__ == sorted(visagist.__all__)
    assert dir(visagist) == visagist.__all__
    for name in visagist.__all__:
        assert getattr(visagist, name) is not None
    for name in ("classify", "detect", "landmarks", "makeup", "stylize", "load", "train", "evaluate"):
        assert callable(getattr(visagist, name))
        assert getattr(visagist, name).__doc__


def test_the_public_names():
    """Adding or dropping one is a decision."""
    assert visagist.__all__ == [
        *(
            "Face",
            "FaceError",
            "OutputError",
            "Photo",
            "PhotoError",
            "TrainingError",
            "UsageError",
            "VisagistError",
            "WeightsError",
        ),
        *("__version__", "classify", "detect", "evaluate", "identify", "landmarks", "load", "makeup", "recognize", "relief"),
        *("rotate", "stylize", "train"),
    ]


def test_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = visagist.nonsense


def test_importing_it_is_light():
    heavy = "{'torch', 'cv2', 'numpy', 'PIL', 'pydantic', 'lightning'}"
    assert run(f"import sys, visagist; print({heavy} & set(sys.modules))") == "set()\n"


def test_the_table_and_the_photo_need_no_torch():
    code = "import sys, visagist, visagist.catalog; visagist.Photo, visagist.Face, visagist.detect, visagist.load"
    assert run(code + "; print('torch' in sys.modules, len(visagist.catalog.SYSTEMS) > 0)") == "False True\n"


def test_a_room_does_not_take_the_place_of_its_verb():
    """`visagist.detect` is a function, `visagist/detect/` a room: importing the room must not exchange the two."""
    before = "import visagist, visagist.detect; from visagist.makeup import __name__ as m; visagist.landmarks"
    after = "import visagist.landmarks, visagist.training.evaluate; from visagist.detect import scenes; print(m, scenes.__name__)"
    kinds = "print(*(type(getattr(visagist, n)).__name__ for n in ('detect', 'landmarks', 'makeup', 'evaluate')))"
    out = run(f"{before}; {after}; {kinds}").splitlines()
    assert out == ["visagist.makeup visagist.detect.scenes", "function function function function"]
