"""A landmark network's maps, and the directions in which pictures of one person vary alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from visagist import catalog
from visagist.errors import TrainingError, UsageError
from visagist.landmarks.landmarks68 import Points68
from visagist.photo.photo import Photo
from visagist.recipe import Item, Networks
from visagist.recognize.embedding import unit
from visagist.recognize.maps import SHRINK, FromMaps, Trunk, Whitened
from visagist.training.loop import train
from visagist.weights.device import prepare

WIDTHS, BLOCKS = (8, 8, 16, 16), (1, 2, 1)
TINY = FromMaps(window=32, widths=WIDTHS, blocks=BLOCKS, dimensions=16, kept=8, batch=16, steps=30, dropout=0.2, rate=0.01)


def landmark_network(window: int = 32) -> nn.Module:
    """As it is lent: ready for use, batch norms folded, which are not the identity."""
    torch.manual_seed(0)
    net = Points68(window, WIDTHS, BLOCKS, 8, 1.3)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return prepare(net, torch.device("cpu"), exact=True)


@pytest.fixture(scope="module")
def lent() -> dict[str, Networks]:
    return {"features": {"points": landmark_network()}}


def test_parameters() -> None:
    with torch.device("meta"):
        recipe = catalog.recipe("embedding")
        assert isinstance(recipe, FromMaps)
        nets = recipe.networks()
    counts = {name: sum(p.numel() for p in nets[name].parameters()) for name in recipe.ships}
    kernel = 9
    trunk = 3 * 32 * 25 + 32 + kernel * (32 * 64 + 2 * 64 * 64 + 64 * 128 + 4 * 128 * 128) + 3 * 64 + 5 * 128
    assert counts == {"trunk": trunk, "whitened": 0, "embedding": 800 * 256}
    assert sum(b.numel() for b in nets["whitened"].buffers()) == (64 + 128) * 49 * (400 + 1)
    assert recipe.length == 1056


def test_the_trunk_sees_what_the_landmark_network_sees() -> None:
    net, trunk = landmark_network(), Trunk(WIDTHS[:3], BLOCKS[:2])
    trunk.take(net)
    seen: dict[str, torch.Tensor] = {}
    for name in ("at4", "at8"):
        net.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        net(x)
        fine, coarse = trunk(x)
    assert torch.allclose(fine, nn.functional.avg_pool2d(seen["at4"], 4).flatten(1), atol=1e-5)
    assert torch.allclose(coarse, nn.functional.avg_pool2d(seen["at8"], 2).flatten(1), atol=1e-5)


def test_another_network_is_refused() -> None:
    for other in (None, nn.Linear(2, 2), prepare(Points68(32, (8, 8, 8, 8), BLOCKS, 8, 1.3), torch.device("cpu"))):
        with pytest.raises(TrainingError, match="another network") as raised:
            Trunk(WIDTHS[:3], BLOCKS[:2]).take(other)
        assert raised.value.code == "bad-setting"


def test_networks_that_learn_from_pixels_are_other_presets() -> None:
    with pytest.raises(UsageError, match="other presets") as raised:
        catalog.recipe("embedding", network="mobile")
    assert raised.value.code == "bad-setting"
    with pytest.raises(UsageError, match="multiple of 16"):
        catalog.recipe("embedding", window=100)


def made(people: int = 12, each: int = 6, seed: int = 0, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Features that differ between people in some directions and between pictures, more strongly, in others."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), each)
    own = rng.normal(size=(people, 5)) @ rng.normal(size=(5, count)) * 0.5
    light = rng.normal(size=(len(labels), 3)) @ rng.normal(size=(3, count)) * 2
    features = own[labels] + light + rng.normal(size=(len(labels), count)) * 0.1
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


NOTHING = torch.empty(0, 60), torch.empty(0, dtype=torch.long)


def test_pictures_of_one_person_vary_alike_in_all_directions() -> None:
    features, labels = made()
    net = Whitened(60, 8)
    held = net.fit(features, labels, *NOTHING)
    assert 0.9 < held <= 1
    means = torch.stack([features[labels == p].mean(0) for p in range(12)])
    left = (features - means[labels]).double() / np.sqrt(len(labels) - 12)
    matrix = net.matrix.double().T
    basis = torch.linalg.qr(matrix)[0]
    spread = (left @ basis).square().sum() / 8  # mean variance of the eight components
    seen = (1 - SHRINK) * (left @ matrix).T @ (left @ matrix) + SHRINK * spread * matrix.T @ matrix
    assert torch.allclose(seen / seen[0, 0], torch.eye(8, dtype=torch.double), atol=1e-3)


def margin(vectors: torch.Tensor, labels: torch.Tensor) -> float:
    cosines, same = unit(vectors - vectors.mean(0)) @ unit(vectors - vectors.mean(0)).T, labels[:, None] == labels
    return float(cosines[same].mean() - cosines[~same].mean())


def test_the_right_directions_tell_people_apart() -> None:
    features, labels = made()
    net = Whitened(60, 8)
    net.fit(features, labels, *NOTHING)
    assert margin(net(features), labels) > margin(features, labels) + 0.2


def test_made_up_pictures_say_what_one_person_can_look_like() -> None:
    features, labels = made()
    alone = Whitened(60, 8)
    alone.fit(features[::6], labels[::6], *NOTHING)  # a picture of each person says nothing of how it varies
    helped = Whitened(60, 8)
    helped.fit(features[::6], labels[::6], features, labels)
    assert margin(helped(features), labels) > margin(alone(features), labels) + 0.1


def test_how_anybody_can_look_does_not_tell_people_apart() -> None:
    features, labels = made(people=60, each=4)
    other = labels >= 30
    features = features + other[:, None] * torch.linspace(-3, 3, 60)
    alike: list[float] = []
    for looks in ([], [(other, ~other)], [(other, ~other), (~other, other)]):
        net = Whitened(60, 12)
        net.fit(features, labels, *NOTHING, looks)
        cosines = unit(net(features)) @ unit(net(features)).T
        strangers = (labels[:, None] != labels) & (other[:, None] == other)
        alike.append(float(cosines[strangers].mean()))
        assert bool(net.matrix.isfinite().all())
    assert alike[0] > 0.1 > abs(alike[1])
    assert alike[1] == pytest.approx(alike[2], abs=1e-3)  # the same said twice


def test_looks_are_of_sets_and_of_facts(items: list[Item]) -> None:
    def known(count: int, of: str, **facts: float) -> list[Item]:
        return [dataclasses.replace(items[0], facts={"set": of, **facts}) for _ in range(count)]

    many = [
        *known(50, "video", eyeglasses=1.0),
        *known(60, "video", eyeglasses=0.0),
        *known(45, "album", smiling=1.0),
        *known(5, "few"),
    ]
    found = [(int(one.sum()), int(other.sum())) for one, other in TINY._looks(many)]
    assert sorted(found) == [(45, 110), (50, 60)]
    assert TINY._looks(known(300, "one")) == []
    assert dataclasses.replace(TINY, looks=())._looks(many[:110]) == []


def test_fewer_pictures_than_dimensions() -> None:
    features, labels = made(people=3, each=2)
    net = Whitened(60, 50)
    net.fit(features, labels, *NOTHING)
    assert bool(net.matrix.isfinite().all())
    assert net.matrix[5:].abs().max() == 0  # six pictures span five directions
    net.fit(*made(people=5, each=1), *NOTHING)  # one picture each: nothing is known of how they vary
    assert bool(net.matrix.isfinite().all()) and net.matrix.abs().max() > 0


def test_a_training_takes_the_maps_and_teaches_one_layer(items: list[Item], lent: dict[str, Networks], tmp_path: Path) -> None:
    weights = train(
        TINY, items, tmp_path / "run", system="embedding", validation=items, lent=lent, workers=0, threads=1, quiet=True
    )
    loaded = catalog.load(weights)
    assert isinstance(loaded.recipe, FromMaps) and loaded.recipe.people == 6
    assert set(loaded.nets) == {"trunk", "whitened", "embedding"}
    taken = Trunk(WIDTHS[:3], BLOCKS[:2])
    taken.take(lent["features"]["points"])
    assert torch.allclose(loaded.nets["trunk"].to8.weight.float(), taken.to8.weight, atol=2e-2)  # 8 bits in the file
    (face,) = loaded.recipe.recognize(loaded.nets, items[0].photo, items[0].faces)
    assert face.identity is not None and face.identity.shape == (2 * 8 + 16,)
    assert np.linalg.norm(face.identity) == pytest.approx(1, abs=1e-5)
    mirrored = Photo.of(np.ascontiguousarray(items[0].photo.pixels[:, ::-1]))
    (other,) = loaded.recipe.recognize(loaded.nets, mirrored, [items[0].faces[0].mirrored(64)])
    assert other.identity is not None and face.identity @ other.identity > 0.9
    told = {row.metric: row.value for row in loaded.card.measured}
    assert told["auc"] > 0.9  # the six people it has learnt


def test_the_layer_alone_learns_and_every_number_of_it(items: list[Item], lent: dict[str, Networks], tmp_path: Path) -> None:
    before: dict[str, torch.Tensor] = {}

    class Watched(FromMaps):
        def step(self, run, batch):
            if not before:
                before.update({f"{n}.{k}": v.clone() for n, net in run.nets.items() for k, v in net.state_dict().items()})
                for name, p in (
                    (f"{n}.{k}", p) for n, net in run.nets.items() for k, p in net.named_parameters() if p.requires_grad
                ):
                    p.register_hook(lambda g, name=name: reached.add(name) if bool(g.ne(0).any()) else None)
            told = super().step(run, batch)
            after.update({f"{n}.{k}": v.clone() for n, net in run.nets.items() for k, v in net.state_dict().items()})
            return told

    after: dict[str, torch.Tensor] = {}
    reached: set[str] = set()
    train(Watched(**dataclasses.asdict(dataclasses.replace(TINY, steps=3))), items, tmp_path / "run",
          system="embedding", lent=lent, workers=0, threads=1, quiet=True)  # fmt: skip
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == reached == {"embedding.1.weight", "people.weight"}
