"""The page docs/stylize.md: its example of a foreign feature network runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image

from visagist.photo.photo import Photo

PAGE = Path(__file__).parents[2] / "docs" / "stylize.md"


def test_a_network_of_ones_own_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(skimage.data.chelsea()[::4, ::4]).save("me.jpg")
    Image.fromarray(skimage.data.coffee()[::4, ::4]).save("painting.jpg")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S) if "Features" in block)
    torch.manual_seed(0)
    assert "size=256" in code
    exec(compile(code.replace("size=256", "size=48, iterations=3"), str(PAGE), "exec"), {"__name__": "example"})
    assert Photo.open("me.stylize.png").size == (39, 59)
