"""Surfaces as other programs read them: PLY with colours, GLB (glTF 2.0) with a picture as texture.

Bytes only, nothing is written here; OBJ is text and stands in `head.mesh`.
"""

from __future__ import annotations

import json
import struct

import numpy as np

from visagist.head.mesh import Mesh, normals

METRES = 0.01  # in a unit of the model: glTF wants metres


def ply(mesh: Mesh, colours: np.ndarray) -> bytes:
    """Binary PLY (little endian) with a colour uint8 [N, 3] for every vertex."""
    count = len(mesh.vertices)
    if colours.shape != (count, 3) or colours.dtype != np.uint8:
        raise ValueError("colours are uint8 of shape [N, 3]")
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    head += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {name}" for name in ("red", "green", "blue")]
    head += [f"element face {len(mesh.triangles)}", "property list uchar int vertex_indices", "end_header"]
    rows = np.empty(count, np.dtype([("at", "<f4", 3), ("colour", "u1", 3)]))
    rows["at"], rows["colour"] = mesh.vertices, colours
    faces = np.empty(len(mesh.triangles), np.dtype([("corners", "u1"), ("of", "<i4", 3)]))
    faces["corners"], faces["of"] = 3, mesh.triangles
    return "\n".join(head).encode() + b"\n" + rows.tobytes() + faces.tobytes()


def glb(mesh: Mesh, png: bytes) -> bytes:
    """Binary glTF 2.0 with normals and this picture as the texture, lit by nothing but itself. The mesh needs uv."""
    if mesh.uv is None:
        raise ValueError("a texture needs uv")
    places = (mesh.vertices * METRES).astype("<f4")
    down = np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=1).astype("<f4")  # glTF counts from the texture's top
    corners = mesh.triangles.astype("<u4").ravel()
    kinds = [
        (corners.tobytes(), 5125, "SCALAR", len(corners), {}),
        (places.tobytes(), 5126, "VEC3", len(places), {"min": places.min(0).tolist(), "max": places.max(0).tolist()}),
        (normals(mesh.vertices, mesh.triangles).astype("<f4").tobytes(), 5126, "VEC3", len(places), {}),
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
        "meshes": [{"primitives": [{"attributes": {"POSITION": 1, "NORMAL": 2, "TEXCOORD_0": 3}, "indices": 0, "material": 0}]}],
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
