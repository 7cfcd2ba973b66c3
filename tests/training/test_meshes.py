"""Meshes as data: an npz, the same as OBJ files, scans; what is wrong with them is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visagist.errors import TrainingError
from visagist.head.mesh import Mesh
from visagist.training.data import meshes
from visagist.training.data.readers import read

Egg = dict[str, np.ndarray]


def as_objects(folder: Path, egg: Egg, neutral: str) -> None:
    moves = {"identity000": egg["identity"][0], "identity001": egg["identity"][1], "jawOpen": egg["expression"][0]}
    for name, move in {neutral: 0 * egg["identity"][0], **moves}.items():
        (folder / f"{name}.obj").write_text(Mesh(egg["neutral"] + move.astype(float), egg["triangles"]).obj())


def test_an_npz(tmp_path: Path, egg: Egg) -> None:
    np.savez_compressed(tmp_path / "face.npz", **egg)
    for path in (tmp_path, tmp_path / "face.npz"):
        items = read(path, fold="train", needs=("mesh",))
        assert [item.facts["kind"] for item in items] == ["neutral"] + 6 * ["identity"] + 3 * ["expression"]
        assert set(items[0].arrays) == {"vertices", "triangles", "landmarks68"}
        assert np.array_equal(items[7].arrays["move"], egg["expression"][0].astype(np.float32))
        assert items[7].name == "jawOpen" and items[0].facts["set"] == tmp_path.name


def test_objects_in_the_layout_of_the_source(tmp_path: Path, egg: Egg) -> None:
    as_objects(tmp_path, egg, "generic_neutral_mesh")
    (tmp_path / meshes.LANDMARKS).write_text(" ".join(str(v) for v in egg["landmarks68"]))
    items = {item.name: item for item in read(tmp_path, needs=("mesh",))}
    assert next(iter(items)) == "generic_neutral_mesh"
    assert items["identity001"].facts["kind"] == "identity" and items["jawOpen"].facts["kind"] == "expression"
    assert np.allclose(items["identity001"].arrays["move"], egg["identity"][1], atol=1e-3)


def test_scans(tmp_path: Path, egg: Egg) -> None:
    as_objects(tmp_path, egg, "anna")
    with pytest.raises(TrainingError, match="landmarks68.txt"):
        read(tmp_path, needs=("mesh",))
    (tmp_path / meshes.LANDMARKS).write_text("\n".join(str(v) for v in egg["landmarks68"]))
    assert [item.facts["kind"] for item in read(tmp_path, needs=("mesh",))] == 4 * ["scan"]
    (tmp_path / "zoe.obj").write_text(Mesh(egg["neutral"][:9].astype(float), np.array([[0, 1, 2]])).obj())
    with pytest.raises(TrainingError, match=r"zoe.obj.*topology"):
        read(tmp_path, needs=("mesh",))
    assert len(read(tmp_path, needs=("mesh",), skip_bad=True)) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"triangles": None}, "no triangles"),
        ({"landmarks68": np.full(68, 9999)}, "68 numbers"),
        ({"identity": np.zeros((6, 3, 3))}, "identity has shape"),
        ({"expression": np.full((3, 1681, 3), np.nan)}, "not finite"),
        ({"neutral": np.array([object()])}, "pickle"),
    ],
)
def test_a_damaged_npz(tmp_path: Path, egg: Egg, change: dict[str, np.ndarray | None], said: str) -> None:
    arrays = {key: value for key, value in {**egg, **change}.items() if value is not None}
    np.savez(tmp_path / "face.npz", **arrays)
    with pytest.raises(TrainingError, match=said) as caught:
        read(tmp_path, needs=("mesh",))
    assert caught.value.code == "bad-data"


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "face.npz").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(TrainingError, match="no face model"):
        read(tmp_path, needs=("mesh",))
