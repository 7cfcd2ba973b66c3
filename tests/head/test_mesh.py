"""Surfaces: normals, OBJ there and back, PLY and GLB number for number, partners on the other side."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from visagist.head.mesh import METRES, Mesh, mirror_of, normals

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


PLACES = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2.5]], float)
TETRA = Mesh(PLACES, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]), uv=np.array([[0, 0], [1, 0], [0, 1], [0.5, 0.25]]))


def test_ply() -> None:
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3)
    head, _, body = TETRA.ply(colours).partition(b"end_header\n")
    assert head.decode().splitlines()[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 4"]
    assert len(body) == 4 * (12 + 3) + 4 * (1 + 12)
    assert struct.unpack_from("<3f3B", body, 3 * 15) == (0, 0, 2.5, 9, 10, 11)
    assert struct.unpack_from("<B3i", body, 60 + 13) == (3, 0, 1, 3)
    with pytest.raises(ValueError, match="uint8"):
        TETRA.ply(colours.astype(float))


def test_glb() -> None:
    data = TETRA.glb(b"a picture")
    magic, version, length, size, kind = struct.unpack_from("<4sII I4s", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON") and length % 4 == 0
    said = json.loads(data[20 : 20 + size])
    body = data[28 + size :]
    assert len(body) == said["buffers"][0]["byteLength"]

    def read(number: int, form: str) -> np.ndarray:
        view = said["bufferViews"][number]
        return np.frombuffer(body[view["byteOffset"] :][: view["byteLength"]], form)

    assert np.array_equal(read(0, "<u4").reshape(-1, 3), TETRA.triangles)
    assert np.allclose(read(1, "<f4").reshape(-1, 3), PLACES * METRES)
    assert said["accessors"][1]["max"] == pytest.approx([0.02, 0.02, 0.025])
    assert np.allclose(np.linalg.norm(read(2, "<f4").reshape(-1, 3), axis=1), 1)
    assert np.allclose(read(3, "<f4").reshape(-1, 2)[3], (0.5, 0.75))
    assert read(4, "u1").tobytes() == b"a picture" and said["images"][0]["bufferView"] == 4
    with pytest.raises(ValueError, match="uv"):
        Mesh(TETRA.vertices, TETRA.triangles).glb(b"")
