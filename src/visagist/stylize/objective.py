"""The loss of style transfer and its gradient: terms of content and style, summed over layers, for pictures of one size.

Paper   Gatys, Ecker, Bethge: Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, section 2, with the constants of
        the program style-transfer (fzliu, 2015).
Input   features of a `Reader`; the photo and the style pictures as float [1, 3, H, W] in [-1, 1].
Output  loss and gradient of a picture [1, 3, H, W].
Differs Gram matrices may be averages over positions, which the style's size does not change; positions may count differently
        (faces); gradients are written down where the paper gives them and pulled back through the network by autograd.
Read    content_term, style_term, then Objective.

Axes: C channels, M = h w positions of a layer, F [C, M] its features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from visagist.stylize.reader import Reader, Tile

Maps = tuple[Tensor | None, Tensor | None]
Span = tuple[slice, slice]

CHUNKS = 16  # pieces of a layer whose Gram matrices are added in float32
FAINT = 1e-3  # a style's Gram matrix below this part of the content's counts as empty
STYLE_LESS, CONTENT_MORE = 0.7, 9.0  # in a face that is kept altogether: style counts less by so much, content more


# ---- the two losses and their gradients with respect to the features


def content_term(features: Tensor, target: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Half the sum of squared differences, and its gradient F - F_c (paper, equations 1 and 2).

    features, target [1, C, h, w]; weights [h, w], how much each position counts, or None for 1.
    The condition F > 0 of equation 2 is the ReLU's own gradient, which the way back to the picture goes through.
    """
    difference = features - target
    gradient = difference if weights is None else difference * weights.to(difference)
    exact = torch.promote_types(features.dtype, torch.float32)
    return (gradient.to(exact) * difference.to(exact)).sum() / 2, gradient


def gram_sum(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Products of channels, summed over positions: [1, C, h, w] -> [C, C] in at least float32.

    Sums of bfloat16 are made in pieces of the positions and added in float32, so that rounding does not show.
    """
    f = features[0].permute(1, 2, 0).flatten(0, 1)  # [M, C]
    g = f if weights is None else f * weights.flatten()[:, None].to(f)
    if f.dtype == torch.float64:
        return g.T @ f
    pieces = CHUNKS if len(f) >= 64 * CHUNKS else 1
    whole = len(f) // pieces * pieces
    parts = torch.bmm(g[:whole].unflatten(0, (pieces, -1)).transpose(1, 2), f[:whole].unflatten(0, (pieces, -1)))
    rest = g[whole:].float().T @ f[whole:].float()
    return parts.float().sum(0) + rest


def style_term(products: Tensor, target: Tensor, positions: float, form: str = "normalised") -> tuple[Tensor, Tensor]:
    """Squared difference of Gram matrices over 4 C² M², and the matrix D with which its gradient is D F (paper, equations 4 to 6).

    products   G = F F^T [C, C], summed over the positions
    target     G_s [C, C], what it should be: a sum too in the form "seed", an average in the form "normalised", where it is scaled
               by M; M² then falls out
    positions  M of the generated picture
    """
    area = 1.0 if form == "seed" else positions
    difference = products / area - target
    constant = area**2 / (len(products) ** 2 * positions**2)
    return constant / 4 * difference.square().sum(), constant / area * difference


def style_gradient(features: Tensor, matrix: Tensor, weights: Tensor | None = None, onto: Tensor | None = None) -> Tensor:
    """D F for features [1, C, h, w]: the gradient of `style_term`; added to the gradient `onto` in place where there is one."""
    f = features[0].permute(1, 2, 0)  # [h, w, C]
    f = (f if weights is None else f * weights[:, :, None].to(f)).flatten(0, 1)
    matrix = matrix.to(f.dtype)
    if onto is None:
        return (f @ matrix).unflatten(0, features.shape[2:]).permute(2, 0, 1)[None]
    rows = onto[0].permute(1, 2, 0)
    if rows.is_contiguous():
        rows.flatten(0, 1).addmm_(f, matrix)
    else:  # a part of a tile
        rows.add_((f @ matrix).unflatten(0, rows.shape[:2]))
    return onto


def roughness(x: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Half the sum of squared differences of neighbouring pixels of x [1, 3, H, W], and its gradient (total variation, squared).

    allowed  a picture [1, 3, H, W]: only what a difference has beyond its difference there counts
    """
    down, right = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
    if allowed is not None:
        down = _beyond(down, allowed[:, :, 1:] - allowed[:, :, :-1])
        right = _beyond(right, allowed[:, :, :, 1:] - allowed[:, :, :, :-1])
    gradient = torch.zeros_like(x)
    gradient[:, :, 1:] += down
    gradient[:, :, :-1] -= down
    gradient[:, :, :, 1:] += right
    gradient[:, :, :, :-1] -= right
    return (down.square().sum() + right.square().sum()) / 2, gradient


def _beyond(differences: Tensor, allowed: Tensor) -> Tensor:
    """What the differences have beyond the size of those that are allowed, with their sign."""
    return differences.sign() * (differences.abs() - allowed.abs()).clamp_min(0)


# ---- one size


@dataclass(frozen=True)
class Weights:
    """What counts how much: layers, ratio, smoothness; faces (mask [H, W] in 0..1, or None) and how far they are kept, 0..1."""

    content: Mapping[str, float]
    style: Mapping[str, float]
    ratio: float
    smooth: float = 0.0
    mask: Tensor | None = None
    guard: float = 0.0


class Objective:
    """The total loss of a picture [1, 3, H, W] at one size, and its gradient. Targets are read once, when it is made.

    styles   pictures [1, 3, h, w] with their shares, which add up to 1
    form     "normalised": Gram matrices are averages over positions; "seed": sums
    balance  whether every term is divided by what it is for a picture without any features, and roughness by the positions
    tile     side of the pieces in which larger pictures are read
    terms    the weighted terms of the last evaluation, by layer
    """

    def __init__(
        self, reader: Reader, content: Tensor, styles: Sequence[tuple[Tensor, float]], weights: Weights, *,
        form: str = "normalised", balance: bool = False, tile: int = 1 << 20,
    ) -> None:  # fmt: skip
        self.reader, self.weights, self.form, self.balance = reader, weights, form, balance
        self.content = content  # in whose edges roughness is free
        self.tiles = reader.tiles(content.shape[2], content.shape[3], tile)
        self.grams: dict[str, Tensor] = {}  # of the styles, mixed
        for picture, share in styles:
            for name, (products, count) in self._products(picture, reader.tiles(picture.shape[2], picture.shape[3], tile)).items():
                self.grams[name] = self.grams.get(name, 0) + share * (products if form == "seed" else products / count)
        self.targets, self.sizes = self._targets(content)
        self.maps = {name: self._maps(size) for name, size in self.sizes.items()}
        self.factors = self._factors(content) if balance else dict.fromkeys(("content", *reader.names), 1.0)
        self.terms: dict[str, float] = {}

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        """Loss and gradient. Several tiles are read twice: the Gram matrices must be known before anything can be pulled back."""
        x = x.detach()
        weights, gradient = self.weights, torch.zeros_like(x)
        losses: dict[str, Tensor] = {}
        matrices = self._style(self._products(x, self.tiles, self.maps), losses) if len(self.tiles) > 1 else {}
        for tile in self.tiles:
            reading = self.reader.read(tile.of(x))
            if len(self.tiles) == 1:
                matrices = self._style(self._summed(reading.found, tile, self.maps), losses)
            pulls = partial(self._pulls, tile, matrices, losses)
            gradient[..., tile.rows, tile.columns] += reading.pull(pulls)
        if weights.smooth:
            loss, part = roughness(x, self.content)
            share = weights.smooth / (x.shape[2] * x.shape[3]) if self.balance else weights.smooth
            losses["smooth"] = share * loss
            gradient.add_(part, alpha=share)
        self.terms = {name: float(loss) for name, loss in losses.items()}
        return sum(self.terms.values()), gradient

    def _pulls(
        self,
        tile: Tile,
        matrices: Mapping[str, Tensor],
        losses: dict[str, Tensor],
        name: str,
        features: Tensor,
        deeper: Tensor | None,
    ) -> Tensor:
        """The gradient of a tile's features; puts the content term of its core into `losses`."""
        whole = torch.zeros_like(features) if deeper is None else deeper.contiguous(memory_format=torch.channels_last)
        kept, place = self._spans(tile, name, features)
        inside, onto = features[:, :, kept[0], kept[1]], whole[:, :, kept[0], kept[1]]
        of_style, of_content = (None if m is None else m[place] for m in self.maps[name])
        if name in matrices:
            style_gradient(inside, matrices[name], of_style, onto)
        if name in self.targets:
            loss, part = content_term(inside, self.targets[name][:, :, place[0], place[1]], of_content)
            factor = self.weights.content[name] * self.factors["content"]
            losses[f"content {name}"] = losses.get(f"content {name}", torch.zeros_like(loss)) + factor * loss
            onto.add_(part, alpha=factor)
        return whole

    def _style(self, products: Mapping[str, tuple[Tensor, float]], losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Puts the style terms into `losses`; the matrices with which their gradients are made."""
        matrices = {}
        for name, weight in self.weights.style.items():
            summed, count = products[name]
            factor = self.weights.ratio * weight * self.factors[name]
            loss, matrix = style_term(summed, self.grams[name], count, self.form)
            losses[f"style {name}"], matrices[name] = factor * loss, factor * matrix
        return matrices

    def _products(
        self, picture: Tensor, tiles: Sequence[Tile], maps: Mapping[str, Maps] | None = None
    ) -> dict[str, tuple[Tensor, float]]:
        """For each style layer the products of channels summed over a whole picture, and over how many positions."""
        total: dict[str, tuple[Tensor, float]] = {}
        with torch.no_grad():
            for tile in tiles:
                for name, (products, count) in self._summed(self.reader.read(tile.of(picture)).found, tile, maps).items():
                    before = total.get(name, (0, 0.0))
                    total[name] = before[0] + products, before[1] + count
        return total

    def _summed(self, found: Mapping[str, Tensor], tile: Tile, maps: Mapping[str, Maps] | None) -> dict[str, tuple[Tensor, float]]:
        """The same for the features of one tile."""
        summed = {}
        for name in self.weights.style:
            features = found[name].detach()
            kept, place = self._spans(tile, name, features)
            inside = features[:, :, kept[0], kept[1]]
            whole = None if maps is None else maps[name][0]
            count = None if whole is None else whole[place]
            summed[name] = gram_sum(inside, count), float(inside[0, 0].numel() if count is None else count.sum())
        return summed

    def _spans(self, tile: Tile, name: str, features: Tensor) -> tuple[Span, Span]:
        stride = self.reader.strides[name]
        kept = tile.kept(features, stride)
        return kept, tile.place(stride, kept)

    def _targets(self, content: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[int, int]]]:
        """The content's features at the content layers, put together from the tiles, and the sizes (h, w) of all layers."""
        pieces: dict[str, list[tuple[Span, Tensor]]] = {name: [] for name in self.reader.names}
        with torch.no_grad():
            for tile in self.tiles:
                for name, features in self.reader.read(tile.of(content)).found.items():
                    kept, place = self._spans(tile, name, features)
                    wanted = features[:, :, kept[0], kept[1]] if name in self.weights.content else features[:, :0]
                    pieces[name].append((place, wanted.clone()))  # a view would hold all features of the tile
        sizes = {name: (max(p[0].stop for p, _ in some), max(p[1].stop for p, _ in some)) for name, some in pieces.items()}
        targets = {}
        for name in self.weights.content:
            first = pieces[name][0][1]
            target = first.new_empty(1, first.shape[1], *sizes[name])
            for place, features in pieces[name]:
                target[:, :, place[0], place[1]] = features
            targets[name] = target.contiguous(memory_format=torch.channels_last)
        return targets, sizes

    def _maps(self, size: tuple[int, int]) -> Maps:
        """How much each position of a layer [h, w] counts for style and for content; None where all count alike."""
        if self.weights.mask is None or not self.weights.guard:
            return None, None
        mask = F.interpolate(self.weights.mask[None, None], size, mode="area")[0, 0]
        return 1 - self.weights.guard * STYLE_LESS * mask, 1 + self.weights.guard * CONTENT_MORE * mask

    def _factors(self, content: Tensor) -> dict[str, float]:
        """One over what a term is where there are no features; a style almost without any is measured by the content instead."""
        own = self._products(content, self.tiles)
        factors = {}
        for name, target in self.grams.items():
            products, count = own[name]
            norm = 1.0 if self.form == "seed" else count  # sums are compared with sums
            size = max(float(target.square().sum()), FAINT * float((products / norm).square().sum()))
            size *= 1.0 if self.form != "seed" else 1 / count**2
            factors[name] = 4 * len(target) ** 2 / size if size > 0 else 0.0
        energy = sum(w * float(self.targets[n].float().square().sum()) / 2 for n, w in self.weights.content.items())
        return {**factors, "content": 1 / energy if energy > 0 else 0.0}
