"""The table, and the way from a name or a file to networks, with a tiny system of its own."""

import json
import random
import threading
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from visagist import catalog
from visagist.errors import UsageError, WeightsError
from visagist.recipe import Recipe
from visagist.weights import device as devices
from visagist.weights import store

VERBS = ["detect", "landmarks", "makeup", "stylize", "classify", "swap", "rotate", "edit", "generate", "recognize", "people"]
LENT = ["perceptual", "features", "texture"]  # networks that others work with; alone they do nothing to a photo
CARD = {"input": "RGB", "paper": "none", "command": "visagist train toy", "commercial_use": True}


@dataclass(frozen=True)
class Toy(Recipe):
    """Two networks, one of which ships."""

    ships: ClassVar[tuple[str, ...]] = ("G",)

    width: int = 4
    rate: float = 1e-3
    scales: tuple[int, ...] = (1, 2)
    name: str = "toy"
    deep: bool = False

    def __post_init__(self):
        if self.width > 10**6:
            raise ValueError("width is beyond reason")

    def networks(self):
        return {"G": nn.Sequential(nn.Conv2d(3, self.width, 3), nn.BatchNorm2d(self.width)), "D": nn.Linear(3, 3)}


@dataclass(frozen=True)
class Small(Toy):
    """Computes while it is built, which cannot be done without memory."""

    width: int = 2

    def networks(self):
        assert float(torch.ones(1).sum().item()) == 1
        return super().networks()


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    presets = {"big": (f"{__name__}:Toy", {"width": 6}), "small": (f"{__name__}:Small", {}), "plain": (f"{__name__}:Toy", {})}
    row = catalog.System("toy", "stylize", "no paper", presets)
    monkeypatch.setitem(catalog.SYSTEMS, "toy", row)
    monkeypatch.setattr(store, "BUNDLED", tmp_path / "bundled")
    catalog.forget()
    yield row
    catalog.forget()


def write(place, recipe=None, preset="big", **changes):
    """A weights file of the toy; returns the state that went into it."""
    recipe = recipe or catalog.recipe("toy", preset)
    state = store.state(recipe.networks(), recipe.ships)
    state["G.1.num_batches_tracked"] = torch.tensor(5)
    fields = {"system": "toy", "settings": catalog.settings_of(recipe, preset), **CARD, **changes}
    store.save(place, fields.pop("state", state), **fields)
    return state


# ---- the table


@pytest.mark.parametrize("name", [n for n in catalog.SYSTEMS if n != "toy"])
def test_rows(name):
    row = catalog.SYSTEMS[name]
    assert row.name == name
    assert row.verb in VERBS
    assert row.paper
    assert row.default_preset in row.presets
    for preset in row.presets:
        cls = catalog.recipe_class(name, preset)
        recipe = catalog.recipe(name, preset)
        assert type(recipe) is cls
        assert name in LENT or callable(getattr(recipe, row.verb))
        with torch.device("meta"):
            nets = recipe.networks()
        assert set(cls.ships) <= set(nets)
        again = json.loads(json.dumps(catalog.settings_of(recipe, preset)))
        assert again.pop("preset") == preset
        assert catalog.recipe(name, preset, **again) == recipe


def test_unknown_names():
    with pytest.raises(UsageError, match="did you mean yolo") as caught:
        catalog.system("yollo")
    assert caught.value.code == "unknown-system"
    with pytest.raises(UsageError, match="there are yolo, ") as caught:
        catalog.load("123")
    assert caught.value.code == "unknown-system"
    with pytest.raises(UsageError, match="there are face, ") as caught:
        catalog.recipe_class("yolo", "cat")
    assert caught.value.code == "unknown-preset"


def test_recipes():
    assert catalog.recipe("toy") == Toy(width=6)
    assert catalog.recipe("toy", "small") == Small()
    assert catalog.recipe("toy", width=8, scales=[3]) == Toy(width=8, scales=(3,))
    for settings, said in (
        ({"wide": 1}, "no setting wide"),
        ({"width": "8"}, "width: input should be a valid integer"),
        ({"scales": ["x"]}, "scales.0"),
        ({"deep": 1}, "deep: "),
        ({"width": 10**7}, "beyond reason"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            catalog.recipe("toy", **settings)
        assert caught.value.code == "bad-setting"
        assert "\n" not in caught.value.line()


# ---- loading


def test_bundled_weights(toy):
    with pytest.raises(WeightsError, match="visagist train toy") as caught:
        catalog.load("toy")
    assert caught.value.code == "missing"
    assert toy.bundled is None
    state = write(store.path("toy"))
    loaded = catalog.load("toy", "cpu")
    assert loaded.file == toy.bundled == store.path("toy")
    assert loaded.system is toy
    assert loaded.recipe == Toy(width=6)
    assert set(loaded.nets) == {"G"}
    assert loaded.card.settings["preset"] == "big"
    assert loaded.device == torch.device("cpu")
    net = loaded.nets["G"]
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    same = Toy(width=6).networks()["G"]
    same.load_state_dict({name: state["G." + name] for name in same.state_dict()})
    x = torch.randn(1, 3, 4, 4)
    assert torch.allclose(net(x), devices.prepare(same, loaded.device)(x))
    with loaded.inference():
        assert net(torch.zeros(1, 3, 4, 4)).is_inference()


def test_files_and_run_folders(tmp_path):
    write(tmp_path / "run" / store.RUN_WEIGHTS, preset="small")
    for name in (tmp_path / "run", str(tmp_path / "run"), str(tmp_path / "run" / store.RUN_WEIGHTS)):
        assert catalog.load(name).recipe == Small()
    assert catalog.load(tmp_path / "run") is catalog.load(tmp_path / "run" / store.RUN_WEIGHTS)


def test_a_name_of_the_table_wins_over_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "toy" / store.RUN_WEIGHTS, preset="small")
    with pytest.raises(WeightsError, match="no weights for toy"):
        catalog.load("toy")
    assert catalog.load("./toy").recipe == Small()


def test_a_recipe_that_is_no_preset(tmp_path):
    write(tmp_path / "w.safetensors", Toy(width=3), preset="")
    assert catalog.load(tmp_path / "w.safetensors").recipe == Toy(width=3)


def test_loaded_once_until_the_file_changes(tmp_path):
    file = tmp_path / "w.safetensors"
    write(file)
    first = catalog.load(file)
    found = []
    threads = [threading.Thread(target=lambda: found.append(catalog.load(file, "cpu"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one is found[0] for one in found)
    if first.device.type == "cpu":
        assert found[0] is first
    write(file, Toy(width=9))
    assert catalog.load(file).recipe.width == 9
    catalog.forget()
    assert catalog.load(file) is not first


def test_loading_draws_no_random_numbers(tmp_path):
    write(tmp_path / "w.safetensors")
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    catalog.load(tmp_path / "w.safetensors")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def fails(file, code, message):
    with pytest.raises(WeightsError, match=message) as caught:
        catalog.load(file)
    assert caught.value.code == code
    assert caught.value.path == str(file)
    assert "\n" not in caught.value.line()


def test_of_another_network(tmp_path):
    file = tmp_path / "w.safetensors"
    state = store.state(Toy().networks(), ("G",))
    write(file, state=state)  # made with width 4, the card says 6
    fails(file, "wrong-shape", r"G\.0\.weight has shape \[4, 3, 3, 3\], not \[6, 3, 3, 3\].*and 3 more")
    write(file, Toy(), state={**state, "E.x": torch.zeros(1)})
    fails(file, "wrong-shape", r"E\.x is unknown")
    del state["G.0.bias"]
    write(file, Toy(), state=state)
    fails(file, "wrong-shape", r"G\.0\.bias is missing")
    write(file, Small(), preset="small", state=state)
    fails(file, "wrong-shape", r"G\.0\.bias is missing")


def test_settings_that_do_not_fit(tmp_path):
    file = tmp_path / "w.safetensors"
    good = catalog.settings_of(Toy(), "big")
    for changes, message in (
        ({"wide": 3}, "no setting wide"),
        ({"width": "four"}, "width: input should be a valid integer"),
        ({"width": None}, "width: "),
        ({"width": 2.5}, "width: "),
        ({"width": -1}, "make no network"),
        ({"width": 10**7}, "beyond reason"),
        ({"width": 10**6}, "another network"),  # 27 million numbers: refused before they are allocated
        ({"preset": "giant"}, "names the preset 'giant'"),
        ({"preset": 3}, "names the preset '3'"),
        ({"preset": ["big"]}, "names the preset"),
    ):
        write(file, Toy(), settings={**good, **changes})
        fails(file, "wrong-shape" if "another" in message else "wrong-settings", message)


def test_settings_of_an_older_version(tmp_path):
    """A field that the card does not know takes its default."""
    settings = catalog.settings_of(Toy(), "big")
    del settings["deep"]
    write(tmp_path / "w.safetensors", Toy(), settings=settings)
    assert catalog.load(tmp_path / "w.safetensors").recipe == Toy()


def test_of_a_system_nobody_knows(tmp_path):
    write(tmp_path / "w.safetensors", system="teleport")
    fails(tmp_path / "w.safetensors", "wrong-system", "'teleport'")


def test_for_another_verb(tmp_path):
    write(tmp_path / "w.safetensors")
    assert catalog.load(tmp_path / "w.safetensors", verb="stylize")
    for name in ("toy", tmp_path / "w.safetensors"):
        with pytest.raises(UsageError, match="toy, a system for stylize, not for detect; for detect there are: yolo") as caught:
            catalog.load(name, verb="detect")
        assert caught.value.code == "wrong-verb"


def test_what_is_no_weights_file(tmp_path):
    fails(tmp_path / "none.safetensors", "missing", "no such weights file")
    fails(tmp_path, "missing", "no weights lie in this folder")


def test_the_device_is_judged_first(tmp_path):
    with pytest.raises(UsageError) as caught:
        catalog.load(tmp_path / "none.safetensors", "gpu")
    assert caught.value.code == "no-device"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tmp_path):
    write(tmp_path / "w.safetensors")
    here, there = catalog.load(tmp_path / "w.safetensors", "cpu"), catalog.load(tmp_path / "w.safetensors", "cuda")
    x = torch.randn(2, 3, 16, 16)
    with there.inference():
        found = there.nets["G"](x)
        assert found.device.type == "cuda"
        torch.testing.assert_close(found.cpu(), here.nets["G"](x), atol=0.05, rtol=0.05)


def test_bundled_systems_load(monkeypatch):
    monkeypatch.undo()
    for row in catalog.SYSTEMS.values():
        if row.bundled is not None:
            loaded = catalog.load(row.name, "cpu", verb=row.verb)
            assert loaded.card.system == row.name
            assert loaded.card.preset == row.default_preset
