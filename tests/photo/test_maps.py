"""Pictures of numbers: what levels mean, and files that say how they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visagist.errors import OutputError
from visagist.photo import maps
from visagist.photo.mark import Step
from visagist.photo.photo import read_history

THERE = np.array([[True, True], [True, False]])


def test_depth_is_a_hundredth_of_a_millimetre() -> None:
    levels = maps.depth_map(np.array([[-3.0, 0.0], [2.5, 99.0]]), THERE)
    assert levels.dtype == np.uint16 and levels.tolist() == [[1, 301], [551, 0]]
    assert maps.depth_map(np.array([[0.0, 9000.0], [1.0, 0.0]]), THERE)[0, 1] == 65535
    assert not maps.depth_map(np.zeros((2, 2)), np.zeros((2, 2), bool)).any()


def test_normals_and_angles() -> None:
    right, up, front = np.eye(3)
    normals = np.array([[front, right], [up, front]])
    assert maps.normal_map(normals, THERE).tolist() == [[[128, 128, 255], [255, 128, 128]], [[128, 255, 128], [0, 0, 0]]]
    assert maps.slant_map(normals, THERE)[..., 0].tolist() == [[1, 255], [255, 0]]
    tilt = maps.tilt_map(normals, THERE)[..., 0]
    assert tilt[0, 1] == 1 and tilt[1, 0] == round(1 + 254 / 4) and tilt[1, 1] == 0


def test_files_hold_all_levels_and_the_mark(tmp_path: Path) -> None:
    levels = np.arange(60000, 60012, dtype=np.uint16).reshape(3, 4)
    step = Step("rotate", "shading")
    maps.save_map(tmp_path / "d.png", levels, (step,))
    with Image.open(tmp_path / "d.png") as back:
        assert np.array_equal(np.asarray(back), levels)
    assert [one.system for one in read_history(tmp_path / "d.png")] == ["shading"]
    with pytest.raises(OutputError) as caught:
        maps.save_map(tmp_path / "d.png", levels, (step,))
    assert caught.value.code == "exists"
    with pytest.raises(OutputError) as caught:
        maps.save_map(tmp_path / "d.jpg", levels, (step,))
    assert caught.value.code == "unsupported"
