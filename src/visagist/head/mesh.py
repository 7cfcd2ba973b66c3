"""Surfaces of triangles: normals; as Wavefront OBJ, as PLY with colours, as GLB (glTF 2.0) with a picture as texture.

Vertices float [N, 3]; triangles int [F, 3], counter-clockwise as seen from outside, so that normals point outwards.
NumPy only; nothing here reads or writes files.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

import numpy as np

METRES = 0.01  # in a unit of the model: glTF wants metres


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices float [N, 3]; triangles int [F, 3]; uv float [N, 2] in [0, 1] from the texture's bottom left corner, or None."""

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.vertices)
        if self.vertices.shape != (count, 3) or not np.isfinite(self.vertices).all():
            raise ValueError("vertices are finite numbers of shape [N, 3]")
        if self.triangles.ndim != 2 or self.triangles.shape[1] != 3 or not np.issubdtype(self.triangles.dtype, np.integer):
            raise ValueError("triangles are whole numbers of shape [F, 3]")
        if self.triangles.size and (self.triangles.min() < 0 or self.triangles.max() >= count):
            raise ValueError(f"a triangle has a corner that is none of the {count} vertices")
        if self.uv is not None and self.uv.shape != (count, 2):
            raise ValueError("uv has shape [N, 2]")

    def obj(self, material: str = "", library: str = "") -> str:
        """Wavefront OBJ, numbers from 1; with uv each corner names its texture coordinate.

        material, library  name of the material and of the .mtl file that describes it, "" for none
        """
        lines = [f"mtllib {library}"] if library else []
        lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in self.vertices.tolist()]
        if self.uv is not None:
            lines += [f"vt {u:.6f} {v:.6f}" for u, v in self.uv.tolist()]
        if material:
            lines.append(f"usemtl {material}")
        corner = "f {0}/{0} {1}/{1} {2}/{2}" if self.uv is not None else "f {0} {1} {2}"
        lines += [corner.format(*corners) for corners in (self.triangles + 1).tolist()]
        return "\n".join(lines) + "\n"

    def ply(self, colours: np.ndarray) -> bytes:
        """Binary PLY (little endian) with a colour uint8 [N, 3] for every vertex."""
        count = len(self.vertices)
        if colours.shape != (count, 3) or colours.dtype != np.uint8:
            raise ValueError("colours are uint8 of shape [N, 3]")
        head = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
        head += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {name}" for name in ("red", "green", "blue")]
        head += [f"element face {len(self.triangles)}", "property list uchar int vertex_indices", "end_header"]
        rows = np.empty(count, np.dtype([("at", "<f4", 3), ("colour", "u1", 3)]))
        rows["at"], rows["colour"] = self.vertices, colours
        faces = np.empty(len(self.triangles), np.dtype([("corners", "u1"), ("of", "<i4", 3)]))
        faces["corners"], faces["of"] = 3, self.triangles
        return "\n".join(head).encode() + b"\n" + rows.tobytes() + faces.tobytes()

    def glb(self, png: bytes) -> bytes:
        """Binary glTF 2.0 with normals and this picture as the texture, lit by nothing but itself. The mesh needs uv."""
        if self.uv is None:
            raise ValueError("a texture needs uv")
        places = (self.vertices * METRES).astype("<f4")
        down = np.stack([self.uv[:, 0], 1 - self.uv[:, 1]], axis=1).astype("<f4")  # glTF counts from the texture's top
        corners = self.triangles.astype("<u4").ravel()
        kinds = [
            (corners.tobytes(), 5125, "SCALAR", len(corners), {}),
            (places.tobytes(), 5126, "VEC3", len(places), {"min": places.min(0).tolist(), "max": places.max(0).tolist()}),
            (normals(self.vertices, self.triangles).astype("<f4").tobytes(), 5126, "VEC3", len(places), {}),
            (down.tobytes(), 5126, "VEC2", len(down), {}),
        ]
        views, body = [], b""
        for part in (*(kind[0] for kind in kinds), png):
            views.append({"buffer": 0, "byteOffset": len(body), "byteLength": len(part)})
            body += part + bytes(-len(part) % 4)
        said = {
            "asset": {"version": "2.0", "generator": "visagist"},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0, "name": "head"}],
            "meshes": [
                {"primitives": [{"attributes": {"POSITION": 1, "NORMAL": 2, "TEXCOORD_0": 3}, "indices": 0, "material": 0}]}
            ],
            "materials": [
                {
                    "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0, "roughnessFactor": 1},
                    "extensions": {"KHR_materials_unlit": {}},
                    "doubleSided": True,
                }
            ],
            "textures": [{"source": 0}],
            "images": [{"bufferView": len(kinds), "mimeType": "image/png"}],
            "accessors": [
                {"bufferView": i, "componentType": component, "type": kind, "count": count, **more}
                for i, (_, component, kind, count, more) in enumerate(kinds)
            ],
            "bufferViews": views,
            "buffers": [{"byteLength": len(body)}],
        }
        text = json.dumps(said, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    @classmethod
    def of_obj(cls, text: str) -> Mesh:
        """The surface that an OBJ describes; polygons are split into fans, texture and normals are left out.

        ValueError names the line that makes no sense.
        """
        vertices: list[tuple[float, ...]] = []
        triangles: list[tuple[int, int, int]] = []
        for number, line in enumerate(text.splitlines(), 1):
            kind, *words = line.split() or [""]
            try:
                if kind == "v":
                    x, y, z = (float(w) for w in words[:3])
                    vertices.append((x, y, z))
                elif kind == "f":
                    corners = [int(w.partition("/")[0]) for w in words]
                    corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]  # negative ones count from the last
                    if len(corners) < 3:
                        raise ValueError
                    triangles += [(corners[0], b, c) for b, c in zip(corners[1:], corners[2:], strict=False)]
            except ValueError:
                raise ValueError(f"line {number} is no {'vertex' if kind == 'v' else 'polygon'}") from None
        return cls(np.array(vertices, np.float64).reshape(-1, 3), np.array(triangles, np.int64).reshape(-1, 3))


def normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals of the vertices [N, 3]: the mean of those of the triangles about them, larger triangles counting more.

    A vertex without a triangle has the normal 0.
    """
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    faces = np.cross(b - a, c - a)
    corners = triangles.T.ravel()
    sums = [np.bincount(corners, np.tile(faces[:, axis], 3), minlength=len(vertices)) for axis in range(3)]
    summed = np.stack(sums, axis=1)
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    return summed / np.where(length > 0, length, 1)


def mirror_of(vertices: np.ndarray) -> np.ndarray:
    """For each vertex the one that lies closest to its mirror image in x -> -x, int [N]. Exact on a symmetric mesh."""
    found = np.empty(len(vertices), np.int64)
    mirrored = vertices * np.array([-1.0, 1.0, 1.0])
    order = np.argsort(vertices[:, 1], kind="stable")
    heights = vertices[order, 1]
    reach = max(float(np.ptp(heights)) * 0.02, 1e-9)  # partners have about the same height: only those are compared
    for i, place in enumerate(mirrored):
        low, high = np.searchsorted(heights, (place[1] - reach, place[1] + reach))
        near = order[low:high]
        found[i] = near[np.square(vertices[near] - place).sum(1).argmin()]
    return found
