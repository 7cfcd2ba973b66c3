"""Surfaces: normals, OBJ there and back, partners on the other side."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.head.mesh import Mesh, mirror_of, normals

CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
SIDES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])  # outwards


def test_normals_point_outwards_and_have_length_1() -> None:
    found = normals(CORNERS, SIDES)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert ((CORNERS - CORNERS.mean(0)) * found).sum(1).min() > 0
    assert np.allclose(found[0], -np.ones(3) / np.sqrt(3))
    assert np.allclose(normals(np.vstack([CORNERS, [[9, 9, 9]]]), SIDES)[-1], 0)  # of no triangle


def test_obj_there_and_back() -> None:
    mesh = Mesh(CORNERS, SIDES, uv=CORNERS[:, :2])
    text = mesh.obj(material="photo", library="head.mtl")
    lines = text.splitlines()
    assert lines[0] == "mtllib head.mtl" and "usemtl photo" in lines
    assert [sum(line.startswith(kind) for line in lines) for kind in ("v ", "vt ", "f ")] == [4, 4, 4]
    again = Mesh.of_obj(text)
    assert np.allclose(again.vertices, CORNERS) and np.array_equal(again.triangles, SIDES)


def test_obj_of_others() -> None:
    text = "# made elsewhere\nv 0 0 0 0.5 0.5 0.5\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\nf -4 -3 -2\n"
    mesh = Mesh.of_obj(text)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


DAMAGED = [("v 0 0\n", "line 1"), ("v 0 0 0\nf 1 1\n", "line 2"), ("v 0 0 0\nf 1 2 3\n", "corner"), ("v nan 0 0\n", "finite")]


@pytest.mark.parametrize(("text", "said"), DAMAGED)
def test_damaged_obj(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Mesh.of_obj(text)


def test_partners_on_the_other_side(egg: dict[str, np.ndarray]) -> None:
    vertices = egg["neutral"]
    partner = mirror_of(vertices)
    assert np.array_equal(partner[partner], np.arange(len(vertices)))
    assert np.allclose(vertices[partner] * (-1, 1, 1), vertices, atol=1e-5)
