"""Meshes for other programs: what is written is read back, number for number."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from visagist.head.export import METRES, glb, ply
from visagist.head.mesh import Mesh

PLACES = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2.5]], float)
TETRA = Mesh(PLACES, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]), uv=np.array([[0, 0], [1, 0], [0, 1], [0.5, 0.25]]))


def test_ply() -> None:
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3)
    head, _, body = ply(TETRA, colours).partition(b"end_header\n")
    assert head.decode().splitlines()[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 4"]
    assert len(body) == 4 * (12 + 3) + 4 * (1 + 12)
    assert struct.unpack_from("<3f3B", body, 3 * 15) == (0, 0, 2.5, 9, 10, 11)
    assert struct.unpack_from("<B3i", body, 60 + 13) == (3, 0, 1, 3)
    with pytest.raises(ValueError, match="uint8"):
        ply(TETRA, colours.astype(float))


def test_glb() -> None:
    data = glb(TETRA, b"a picture")
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
        glb(Mesh(TETRA.vertices, TETRA.triangles), b"")
