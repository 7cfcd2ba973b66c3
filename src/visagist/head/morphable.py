"""A 3D morphable model: every face is a mean plus a sum of a few shapes; and how such shapes are learnt from registered meshes.

Paper   Blanz, Vetter: A Morphable Model for the Synthesis of 3D Faces. SIGGRAPH 1999 (shape only: the meshes carry no colour).
Input   meshes of one topology: a neutral face with modes of identity and named expressions (ICT-FaceKit), or scans.
Output  mean, identity and expression basis, each basis vector as long as one standard deviation; coefficients are N(0, 1).
Differs The covariance of random faces is known in closed form where the source says how its coefficients are drawn, so nothing is
        drawn: the principal components come out exactly.
Read    Morphable (the model), then `principal`, `of_modes` and `of_scans` (learning).

Model axes: x to the picture's right (the subject's left), y up, z towards the viewer; the source's units, about centimetres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visagist.head.mesh import Mesh, mirror_of

EYES = (slice(36, 42), slice(42, 48))  # of the 68 points


@dataclass(frozen=True, eq=False)
class Morphable:
    """mean float [N, 3]; identity [I, N, 3], expression [E, N, 3]; triangles int [F, 3]; landmarks int [68]: vertices of the 68
    points; mirror int [N]: each vertex's partner on the other side; named: coefficients [E] of expressions that have names;
    offsets [68, 3]: the ways from these vertices to where annotators set the points (see `head.annotated`), None for none."""

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    triangles: np.ndarray
    landmarks: np.ndarray
    mirror: np.ndarray
    named: dict[str, np.ndarray]
    offsets: np.ndarray | None = None

    def __post_init__(self) -> None:
        Mesh(self.mean, self.triangles)  # checks them
        for basis in (self.identity, self.expression):
            if basis.ndim != 3 or basis.shape[1:] != self.mean.shape or not np.isfinite(basis).all():
                raise ValueError("a basis is finite numbers of shape [K, N, 3], with the mean's N")
        if self.landmarks.shape != (68,) or self.landmarks.min() < 0 or self.landmarks.max() >= len(self.mean):
            raise ValueError("landmarks are 68 numbers of vertices")
        if self.mirror.shape != (len(self.mean),) or self.mirror.min() < 0 or self.mirror.max() >= len(self.mean):
            raise ValueError("mirror is a number of a vertex for each vertex")
        if self.offsets is not None and self.offsets.shape != (68, 3):
            raise ValueError("offsets have the shape [68, 3]")

    def shape(self, identity: np.ndarray | None = None, expression: np.ndarray | None = None) -> np.ndarray:
        """The face [N, 3] with these coefficients, in standard deviations; missing ones at the end are 0."""
        made = self.mean.astype(np.float64)
        for basis, of in ((self.identity, identity), (self.expression, expression)):
            if of is not None and len(of):
                made = made + np.tensordot(np.asarray(of, np.float64), basis[: len(of)], 1)
        return made

    def expressed(self, weights: Mapping[str, float]) -> np.ndarray:
        """Coefficients [E] of a mix of named expressions. A name without its side ("mouthSmile") means both; case does not matter.

        ValueError for a name there is none of.
        """
        total = np.zeros(len(self.expression))
        for name, weight in weights.items():
            wanted = name.lower()
            found = [of for known, of in self.named.items() if known.lower() in (wanted, f"{wanted}_l", f"{wanted}_r")]
            if not found:
                raise ValueError(f"there is no expression {name!r}")
            total += weight * np.sum(found, axis=0)
        return total

    @property
    def apart(self) -> float:
        """The distance between the centres of the mean face's eyes."""
        return float(np.linalg.norm(np.subtract(*(self.mean[self.landmarks[eye]].mean(0) for eye in EYES))))

    @cached_property
    def jaw_rows(self) -> tuple[np.ndarray, ...]:
        """For each of the 17 jaw points the vertices that its outline can slide over as the head turns: those of the same side and
        height that do not lie behind it. The first is the point's own."""
        size, rows = self.apart, []
        for number, own in enumerate(self.landmarks[:17]):
            x, y, z = self.mean[own]
            if 6 < number < 10:  # the chin's outline is taken as it is
                rows.append(np.array([own]))
                continue
            level = (np.abs(self.mean[:, 1] - y) < 0.05 * size) & (self.mean[:, 0] * x > 0) & (self.mean[:, 2] >= z)
            rows.append(np.concatenate([[own], np.setdiff1d(np.flatnonzero(level), [own])]))
        return tuple(rows)

    @cached_property
    def fitted(self) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
        """The few vertices that a fit looks at, close together in memory: their mean [V, 3], identity and expression [V, 3, I + E],
        which of them the jaw rows are, which the other 51 points."""
        used = np.unique(np.concatenate([*self.jaw_rows, self.landmarks[17:]]))
        basis = np.concatenate([self.identity[:, used], self.expression[:, used]]).astype(np.float64)
        rows = tuple(np.searchsorted(used, row) for row in self.jaw_rows)
        inner = np.searchsorted(used, self.landmarks[17:])
        return self.mean[used].astype(np.float64), np.ascontiguousarray(basis.transpose(1, 2, 0)), rows, inner


# --- learning -----------------------------------------------------------------------------------------------------------------


def principal(modes: np.ndarray, moment: np.ndarray, count: int) -> np.ndarray:
    """The principal components of random sums of modes, each as long as its standard deviation: float [count, D].

    modes   [M, D]; a sum has coefficients w
    moment  [M, M]: E[w w^T]
    With L L^T = moment the sums vary like L^T modes = X; the eigenvectors of the small matrix X X^T times X are the components.
    """
    values, vectors = np.linalg.eigh(moment)
    root = vectors * np.sqrt(np.maximum(values, 0))
    spread = root.T @ modes
    values, vectors = np.linalg.eigh(spread @ spread.T)
    order = np.argsort(-values)[:count]
    components = vectors[:, order].T @ spread
    largest = components[np.arange(len(order)), np.abs(components).argmax(1)]
    return components * np.sign(largest)[:, None]  # a component's sign means nothing: fixed, so that a rerun gives the same


def sparse_moment(count: int, active: int = 5) -> np.ndarray:
    """E[w w^T] of random expressions: 1 to `active` of `count` weights, as often one number as another, each uniform in 0..1."""
    active = min(active, count)
    single = (active + 1) / 2 / count  # how often a weight is active
    pair = sum(k * (k - 1) for k in range(1, active + 1)) / active / (count * (count - 1)) if count > 1 else 0.0
    moment = np.full((count, count), pair / 4)
    np.fill_diagonal(moment, single / 3)
    return moment


def of_modes(
    neutral: np.ndarray,
    identity: np.ndarray,
    expression: np.ndarray,
    names: tuple[str, ...],
    triangles: np.ndarray,
    landmarks: np.ndarray,
    *,
    identities: int,
    expressions: int,
) -> Morphable:
    """The model of a neutral face [N, 3] with modes of identity [M, N, 3], whose coefficients are N(0, 1), and expressions
    [K, N, 3] with `names`, whose weights lie in 0..1."""
    count = len(neutral)
    flat = identity.reshape(len(identity), -1).astype(np.float64)
    basis = principal(flat, np.eye(len(flat)), identities)
    moves = expression.reshape(len(expression), -1).astype(np.float64)
    shown = principal(moves, sparse_moment(len(moves)), expressions) if len(moves) else np.zeros((0, 3 * count))
    inner = shown @ shown.T  # components are orthogonal: this is diagonal
    told = (moves @ shown.T) / np.maximum(np.diag(inner), 1e-12) if len(moves) else np.zeros((0, 0))
    named = dict(zip(names, told, strict=True))
    bases = basis.reshape(-1, count, 3), shown.reshape(-1, count, 3)
    return Morphable(neutral, *bases, triangles, landmarks, mirror_of(neutral), named)


def of_scans(scans: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray, *, identities: int) -> Morphable:
    """The model of registered scans [S, N, 3] in any place and turn, of one scale: Procrustes alignment, mean, PCA."""
    mean = scans[0] - scans[0].mean(0)
    for _ in range(5):
        scans = np.stack([aligned(scan, mean) for scan in scans])
        mean = scans.mean(0)
    basis = principal((scans - mean).reshape(len(scans), -1), np.eye(len(scans)) / max(len(scans) - 1, 1), identities)
    basis = basis.reshape(-1, *mean.shape)
    return Morphable(mean, basis, np.zeros((0, *mean.shape)), triangles, landmarks, mirror_of(mean), {})


def aligned(points: np.ndarray, target: np.ndarray, *, scaled: bool = False) -> np.ndarray:
    """Points [N, 3] turned and shifted, with `scaled` also resized, as close to target [N, 3] as can be (Umeyama 1991)."""
    centred, wanted = points - points.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(centred.T @ wanted)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((s * flip).sum() / np.square(centred).sum()) if scaled else 1.0
    return scale * centred @ ((u * flip) @ vt) + target.mean(0)
