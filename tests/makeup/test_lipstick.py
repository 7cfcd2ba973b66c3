"""The network, its loss, the affine map it must beat, and training on a made-up set."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from visagist.makeup.lipstick import (
    FINISHES,
    AffineMaps,
    Lips,
    Lipstick,
    SeedLipstick,
    affine_map,
    squared_error,
    to_network,
    to_pixels,
)
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.training import metrics
from visagist.training.data.readers import read
from visagist.training.loop import train
from visagist.weights import store


@pytest.mark.parametrize("recipe", [Lipstick(), SeedLipstick()])
def test_each_network_has_672_9765_and_1218_parameters(recipe: Lipstick) -> None:
    nets = recipe.networks()
    for finish in FINISHES:
        layers = [sum(p.numel() for p in layer.parameters()) for layer in nets[finish].children()]
        assert layers == [672, 9765, 1218]
        assert sum(p.numel() for p in nets[finish].parameters()) == 11655
    assert not list(nets["affine"].parameters())


@pytest.mark.parametrize("size", [(30, 90), (1, 1), (7, 200), (64, 48)])
@pytest.mark.parametrize("raw", [False, True])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int], raw: bool) -> None:
    assert Lips(raw=raw)(torch.zeros(2, 3, *size)).shape == (2, 3, *size)


def test_a_pixel_is_seen_from_three_pixels_away_and_no_further() -> None:
    torch.manual_seed(0)
    net = SeedLipstick().networks()["glazed"]
    x = torch.zeros(1, 3, 21, 21, requires_grad=True)
    net(x)[0, :, 10, 10].sum().backward()
    assert x.grad is not None
    rows, columns = torch.nonzero(x.grad[0].abs().sum(0), as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 13, 7, 13)


def test_the_residual_network_begins_as_the_identity() -> None:
    x = torch.rand(1, 3, 30, 90) * 2 - 1
    assert torch.equal(Lips(raw=False)(x), x)


def test_the_seed_networks_first_weights() -> None:
    """Normal with deviation 0.1, cut at two deviations, whose own deviation is 0.088; biases 0.1."""
    torch.manual_seed(0)
    weights = torch.cat([layer.weight.flatten() for layer in Lips(raw=True).children()])  # type: ignore[operator]
    assert weights.abs().max() <= 0.2
    weights = weights.detach()
    assert abs(float(weights.mean())) < 0.003
    assert float(weights.std()) == pytest.approx(0.088, abs=0.002)
    assert all((layer.bias == 0.1).all() for layer in Lips(raw=True).children())  # type: ignore[union-attr]


def test_the_seed_network_computes_on_grey_levels() -> None:
    net = Lips(raw=True)
    for layer, value in zip(net.children(), (0.01, 0.002, 0.3), strict=True):
        torch.nn.init.constant_(layer.weight, value)  # type: ignore[arg-type]
        torch.nn.init.constant_(layer.bias, -1.0)  # type: ignore[arg-type]
    centre = net(torch.full((1, 3, 9, 9), 100 / 127.5 - 1)).detach()[0, 0, 4, 4]

    def elu(v: float) -> float:
        return v if v > 0 else math.exp(v) - 1

    h1 = elu(27 * 100 * 0.01 - 1)
    h2 = elu(24 * 9 * h1 * 0.002 - 1)
    assert (float(centre) + 1) * 127.5 == pytest.approx(elu(45 * 9 * h2 * 0.3 - 1), rel=1e-4)


def test_the_loss_is_in_squared_grey_levels() -> None:
    bare = np.full((30, 90, 3), 100, np.uint8)
    wanted = bare + np.array([10, 0, 0], np.uint8)  # 10 levels in one of three colours
    loss = squared_error(torch.from_numpy(to_network(bare))[None], torch.from_numpy(to_network(wanted))[None])
    assert float(loss) == pytest.approx(100 / 3, rel=1e-4)


def test_pixels_survive_the_way_to_the_network_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(to_pixels(torch.from_numpy(to_network(pixels))[None])[0], pixels)


@pytest.mark.parametrize("recipe", [Lipstick(steps=2), SeedLipstick(steps=2)])
def test_every_parameter_gets_a_gradient(drawn: ModuleType, recipe: Lipstick) -> None:
    torch.manual_seed(1)
    nets = recipe.networks()
    for net in nets.values():  # the residual network's zeros let nothing through in the very first step
        for p in net.parameters():
            p.data += 1e-3 * torch.randn_like(p)
    stage = recipe.stages()[1]
    assert stage.optimizers is not None
    run = Run(nets, stage.optimizers(nets), stage, 0, torch.device("cpu"))
    kept: dict[str, list[torch.Tensor]] = {}
    run.apply = lambda name: kept.update({name: [p.grad for p in nets[name].parameters()]})  # type: ignore[method-assign,misc,assignment]
    made = [recipe.example(one, np.random.default_rng(0)) for one in drawn.triples(3)]
    recipe.step(run, {k: torch.from_numpy(np.stack([m[k] for m in made])) for k in made[0]})
    for finish in FINISHES:
        assert all(g is not None and g.abs().max() > 0 for g in kept[finish])


def test_the_affine_map_is_found_exactly() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(3, 4))
    colours = rng.uniform(-1, 1, (500, 3))
    found = affine_map(colours, colours @ truth[:, :3].T + truth[:, 3])
    assert np.allclose(found, truth)
    maps = AffineMaps()
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(maps(x)[:, 0], x)  # before it is fitted
    maps.map[1].copy_(torch.from_numpy(truth))  # type: ignore[index,operator]
    expected = truth[:, :3] @ x[1, :, 2, 3].numpy() + truth[:, 3]
    assert np.allclose(maps(x)[1, 1, :, 2, 3].numpy(), expected, atol=1e-5)


def test_examples_are_mirrored_together_or_not_at_all(drawn: ModuleType) -> None:
    (one,) = drawn.triples(1)
    straight = SeedLipstick().example(one, np.random.default_rng(0))
    assert np.array_equal(straight["bare"], to_network(one.photo.pixels))
    seen = set()
    for seed in range(8):
        example = Lipstick().example(one, np.random.default_rng(seed))
        turned = not np.array_equal(example["bare"], straight["bare"])
        seen.add(turned)
        for name, picture in example.items():
            assert np.array_equal(picture, straight[name][:, :, ::-1] if turned else straight[name])
    assert seen == {False, True}


def test_other_sizes_are_brought_to_30_by_90(drawn: ModuleType) -> None:
    (one,) = drawn.triples(1)
    big = np.repeat(np.repeat(one.photo.pixels, 3, 0), 3, 1)
    small = drawn.item("x", one.photo.pixels[::2, ::2].astype(float), {finish: big.astype(float) for finish in FINISHES})
    example = Lipstick(mirror=False).example(small, np.random.default_rng(0))
    assert {picture.shape for picture in example.values()} == {(3, 30, 90)}
    assert np.allclose(example["glazed"], to_network(one.photo.pixels), atol=1 / 127)


def test_it_learns_a_few_mouths_by_heart_and_ships_a_card(drawn: ModuleType, tmp_path: Path) -> None:
    items = drawn.triples(4)
    recipe = Lipstick(steps=150, batch=4, warm=5, average=0.9)
    file = train(recipe, items, tmp_path / "run", system="lipstick", validation=items, measure_every=75, workers=0, quiet=True)
    state, card = store.read(file)
    assert {name.split(".")[0] for name in state} == {"glazed", "glossy", "affine"}
    figures = {m.metric: m.value for m in card.measured}
    for finish in FINISHES:
        assert figures[f"{finish}_mse"] < 0.5 * figures[f"affine_{finish}_mse"] < figures[f"identity_{finish}_mse"]
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]["rate"] == 1.5e-2
    assert list((tmp_path / "run" / "sheets").glob("*.png"))


def test_the_measure_is_of_clipped_and_rounded_pictures_beside_both_baselines(drawn: ModuleType) -> None:
    items = drawn.triples(3)
    recipe = Lipstick()
    found = recipe.measure(recipe.networks(), items, Tools(metrics))
    assert list(found) == [
        "glazed_mse", "glossy_mse", "affine_glazed_mse", "affine_glossy_mse", "identity_glazed_mse", "identity_glossy_mse", "n",
    ]  # fmt: skip
    assert found["n"] == 3
    by_hand = np.mean([((one.photo.pixels - one.targets["glazed"]().pixels.astype(float)) ** 2).mean() for one in items])
    assert found["glazed_mse"] == found["identity_glazed_mse"] == found["affine_glazed_mse"] == pytest.approx(by_hand)


def write_set(folder: Path, items: list[Item]) -> None:
    for one in items:
        for kind, photo in {"bare": one.photo, "glaze": one.targets["glazed"](), "gloss": one.targets["glossy"]()}.items():
            photo.save(folder / kind / f"{one.name}.png")


def test_a_folder_of_triples_is_read_and_one_missing_file_is_refused(drawn: ModuleType, tmp_path: Path) -> None:
    for kind in ("bare", "glaze", "gloss"):
        (tmp_path / kind).mkdir()
    write_set(tmp_path, drawn.triples(4))
    items = read(tmp_path, needs=Lipstick.needs)
    assert len(items) == 4
    assert np.array_equal(items[2].photo.pixels, drawn.triples(4)[2].photo.pixels)
    (tmp_path / "glaze" / "002.png").unlink()
    with pytest.raises(Exception, match="002") as caught:
        read(tmp_path, needs=Lipstick.needs)
    assert getattr(caught.value, "code", "") == "bad-data"


def test_photos_of_other_formats_make_examples_too() -> None:
    """Grey and transparent pictures are RGB by the time a recipe sees them."""
    grey = Photo.of(np.full((30, 90, 3), 128, np.uint8))
    one = Item("grey", lambda: grey, targets={finish: (lambda: grey) for finish in FINISHES})
    assert all(abs(v).max() < 0.01 for v in Lipstick().example(one, np.random.default_rng(0)).values())


def test_an_optimizer_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="sgd"):
        Lipstick(optimizer="sgd")
