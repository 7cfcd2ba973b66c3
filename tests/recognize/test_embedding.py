"""The embedding: networks, margin, people and clips, examples, a training that learns to tell drawn people apart."""

from __future__ import annotations

import dataclasses
from math import cos, pi, sin
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visagist import catalog
from visagist.errors import TrainingError, VisagistError
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.recognize.embedding import Album, Embedding, Margin, angular_loss, clip_of, person_of, unit
from visagist.training import metrics
from visagist.training.loop import train

TINY = Embedding(window=32, widths=(8, 8, 16, 16), blocks=(1, 1, 1), dimensions=16, batch=16, steps=40, dropout=0.0)


@pytest.mark.parametrize(
    ("preset", "count", "length", "side"),
    [
        ("pooled", 2_315_040, 256, 112),
        ("mobile", 1_068_928, 256, 112),
        ("light-cnn", 5_480_864, 256, 128),
        ("deep", 24_025_600, 512, 112),
    ],
)
def test_parameters(preset: str, count: int, length: int, side: int) -> None:
    with torch.device("meta"):
        recipe = catalog.recipe("embedding", preset)
        net = recipe.networks()["embedding"]
        assert sum(p.numel() for p in net.parameters()) == count
        assert isinstance(recipe, Embedding) and recipe.window == side
        assert net.eval()(torch.zeros(2, 3, side, side)).shape == (2, length)


def test_a_window_that_cannot_be_halved_four_times_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        Embedding(window=100).networks()
    with pytest.raises(ValueError, match="no network"):
        Embedding(network="deeper").networks()


def test_the_margin_in_closed_form() -> None:
    """Two people at right angles, a vector at angle t from the first: the loss is log(1 + exp(s (sin t - cos(t + m))))."""
    s, m = 8.0, 0.3
    for t in (0.2, 1.0, 2.0):
        cosines = torch.tensor([[cos(t), sin(t)]])
        loss = angular_loss(cosines, torch.tensor([0]), scale=s, margin=m)
        assert float(loss) == pytest.approx(float(F.softplus(torch.tensor(s * (sin(t) - cos(t + m))))), rel=1e-4)
    far = torch.tensor([[cos(3.0), 0.0]])  # beyond pi - m the line goes on falling
    expected = F.softplus(torch.tensor(s * (0.0 - (cos(3.0) - m * sin(m)))))
    assert float(angular_loss(far, torch.tensor([0]), scale=s, margin=m)) == pytest.approx(float(expected), rel=1e-4)
    assert cos(3.0) < cos(pi - m)


def test_without_a_margin_it_is_plain_cross_entropy() -> None:
    cosines = torch.rand(4, 5) * 2 - 1
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.allclose(angular_loss(cosines, labels, scale=32, margin=0), F.cross_entropy(32 * cosines, labels), atol=1e-4)


def test_a_margin_makes_it_harder_and_length_does_not_matter() -> None:
    torch.manual_seed(0)
    people, vectors, labels = Margin(7, 12), torch.randn(5, 12), torch.tensor([0, 1, 2, 3, 6])
    cosines = people(vectors)
    assert torch.allclose(cosines, people(vectors * 3), atol=1e-6)
    assert cosines.abs().max() <= 1 + 1e-6
    assert angular_loss(cosines, labels, scale=32, margin=0.3) > angular_loss(cosines, labels, scale=32, margin=0)


def run_of(recipe: Embedding, step: int = 0) -> Run:
    torch.manual_seed(0)
    nets = recipe.networks()
    stage = recipe.stages()[0]
    for net in nets.values():
        net.train()
    return Run(nets, recipe.optimizers(nets), stage, step, torch.device("cpu"))


def batch_of(recipe: Embedding, items: list[Item]) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    examples = [recipe.example(recipe.compose(items, i % len(items), rng), rng) for i in range(recipe.batch)]
    return {key: torch.from_numpy(np.stack([e[key] for e in examples])) for key in examples[0]}


@pytest.mark.parametrize("network", ["pooled", "mobile", "light-cnn", "deep"])
def test_every_parameter_gets_a_gradient(items: list[Item], network: str) -> None:
    recipe = dataclasses.replace(TINY.suited(items), network=network)
    run = run_of(recipe)
    touched: set[str] = set()
    names = [f"{name}.{key}" for name, net in run.nets.items() for key, _ in net.named_parameters()]
    for name, net in run.nets.items():
        for key, p in net.named_parameters():
            p.register_hook(lambda g, key=f"{name}.{key}": touched.add(key) if bool(g.abs().max() > 0) else None)
    recipe.step(run, batch_of(recipe, items))
    assert touched == set(names)


def test_people_are_the_same_however_they_are_spelt() -> None:
    photo = Photo.of(np.zeros((8, 8, 3), np.uint8))
    assert person_of(Item("a", lambda: photo, person="Darrell Issa")) == person_of(Item("b", lambda: photo, person="darrell-issa"))
    assert person_of(Item("c", lambda: photo, facts={"class": "Ann"})) == "ann"
    with pytest.raises(TrainingError, match="who this is"):
        person_of(Item("d", lambda: photo))


def test_frames_of_a_video_and_renders_of_a_picture_are_one_clip() -> None:
    photo = Photo.of(np.zeros((8, 8, 3), np.uint8))
    one, other, third = (Item(n, lambda: photo, person="Ann", facts={"video": v}) for n, v in (("a", 0.0), ("b", 0.0), ("c", 1.0)))
    assert clip_of(one) == clip_of(other) != clip_of(third)
    views = [Item(n, lambda: photo, person="Ann", facts={"source": "x.jpg"}) for n in ("a", "b")]
    assert clip_of(views[0]) == clip_of(views[1])
    assert clip_of(Item("a", lambda: photo, person="Ann")) != clip_of(Item("b", lambda: photo, person="Ann"))


def test_nobody_is_learnt_from_and_measured_on(items: list[Item]) -> None:
    many = [dataclasses.replace(item, person=f"p{i % 30:02}") for i, item in enumerate(items * 5)]
    learnt, held = TINY.split(many, [])
    assert {person_of(i) for i in held} and not {person_of(i) for i in learnt} & {person_of(i) for i in held}
    assert len(learnt) + len(held) == len(many)
    learnt, held = TINY.split(many[:15], many[10:45])  # with some of the same people, and with others
    assert learnt == many[:15] and len(held) == 15
    assert not {person_of(i) for i in learnt} & {person_of(i) for i in held}
    learnt, held = TINY.split(many, many[3::30])  # who is measured on is not learnt from, in whatever set
    assert held == many[3::30] and len(learnt) == len(many) * 29 // 30
    assert "p03" not in {person_of(i) for i in learnt}


def test_people_with_few_pictures_are_drawn_as_often(items: list[Item]) -> None:
    few = [item for item in items if item.person != "person00000"] + [i for i in items if i.person == "person00000"][:1]
    rng = np.random.default_rng(0)
    fair = dataclasses.replace(TINY, even=1.0)
    labels = [fair.compose(few, 0, rng).label for _ in range(1200)]
    assert np.bincount(labels).min() > 150  # of 200
    plain = dataclasses.replace(TINY, even=0.0)
    assert {plain.compose(few, i, rng).name for i in range(len(few))} == {item.name for item in few}
    assert Album.of(few).names == [f"person{i:05}" for i in range(6)]


def test_made_up_pictures_are_drawn_for_their_share(items: list[Item]) -> None:
    views = [
        dataclasses.replace(item, name=f"{item.name}_v{i}", facts={"shape": 1.0, "source": item.name})
        for item in items
        for i in "ab"
    ]
    rng = np.random.default_rng(0)
    both = [*items, *views]
    drawn = [TINY.compose(both, int(rng.integers(len(both))), rng) for _ in range(600)]
    assert 0.42 < np.mean(["shape" in item.facts for item in drawn]) < 0.58
    assert np.bincount([item.label or 0 for item in drawn]).min() > 60
    assert all(item.label == int(str(item.person)[-1]) for item in drawn)
    assert "shape" in TINY.compose(views, 5, rng).facts  # where there is nothing else


def test_rendered_people_are_no_photographs(items: list[Item]) -> None:
    rendered = [dataclasses.replace(i, name=f"r{i.name}", person=f"nobody{i.person}", facts={"set": "people"}) for i in items]
    both, rng = [*items, *rendered], np.random.default_rng(0)
    recipe = dataclasses.replace(TINY, made_up=("people",), renders=0.25)
    drawn = [recipe.compose(both, int(rng.integers(len(both))), rng) for _ in range(600)]
    assert 0.18 < np.mean([item.facts.get("set") == "people" for item in drawn]) < 0.32
    assert recipe.split(items[:18], [*items[18:], *rendered])[1] == []  # all six are learnt from, nobody rendered is measured on
    assert recipe.split(rendered, [*items, *rendered])[1] == items
    assert Album.of(both, ("people",)).all == [list(range(36)), list(range(36, 72))]
    assert Album.of(both).all == [list(range(72)), []]


def test_one_person_alone_can_not_be_learnt(items: list[Item]) -> None:
    with pytest.raises(TrainingError, match="1 person"):
        TINY.suited(items[::6])


def test_an_example_follows_from_its_generator(items: list[Item]) -> None:
    made = [TINY.example(TINY.compose(items, 0, rng), rng) for rng in (np.random.default_rng(5), np.random.default_rng(5))]
    assert np.array_equal(made[0]["image"], made[1]["image"])
    assert made[0]["image"].shape == (3, 32, 32)
    assert made[0]["image"].dtype == np.float32
    assert np.abs(made[0]["image"]).max() <= 1


def test_a_face_is_its_own_double_and_its_mirror_image(items: list[Item]) -> None:
    nets = {name: net.eval() for name, net in TINY.networks().items()}
    photo, face = items[0].photo, items[0].faces[0]
    mirrored = Photo.of(np.ascontiguousarray(photo.pixels[:, ::-1]))
    (once,) = TINY.recognize(nets, photo, [face])
    (again,) = TINY.recognize(nets, photo, [face])
    (other,) = TINY.recognize(nets, mirrored, [face.mirrored(photo.size[1])])
    assert once.identity is not None and again.identity is not None and other.identity is not None
    assert np.array_equal(once.identity, again.identity)
    assert np.linalg.norm(once.identity) == pytest.approx(1, abs=1e-5)
    assert once.identity @ other.identity > 0.98  # the template is not quite its own mirror image
    assert TINY.recognize(nets, photo, []) == ()


def test_a_face_without_points_has_no_window(items: list[Item]) -> None:
    nets = TINY.networks()
    with pytest.raises(VisagistError, match="no points"):
        TINY.recognize(nets, items[0].photo, [dataclasses.replace(items[0].faces[0], points=None, scheme=None)])


def test_the_finder_decides_and_labels_help_out(items: list[Item]) -> None:
    nets = {name: net.eval() for name, net in TINY.networks().items()}
    blind = TINY.measure(nets, items[:12], Tools(metrics, lambda photo: ()))
    own = TINY.measure(nets, items[:12], Tools(metrics))
    assert blind["n_not_found"] == 12
    assert own["n_not_found"] == 0
    assert blind["auc"] == own["auc"]
    bare = [dataclasses.replace(item, faces=()) for item in items[:12]]
    truth = {id(item.photo): item.faces for item in items}
    seen = TINY.measure(nets, bare, Tools(metrics, lambda photo: truth[id(photo)]))
    assert seen["auc"] == own["auc"]


@pytest.mark.parametrize(("network", "rate"), [("pooled", 0.05), ("light-cnn", 0.01)])
def test_it_learns_a_batch_by_heart(items: list[Item], network: str, rate: float) -> None:
    recipe = dataclasses.replace(TINY.suited(items), plain=1.0, network=network, rate=rate)
    run, batch = run_of(recipe), batch_of(recipe, items)
    losses = [float(recipe.step(run, batch)["loss"]) for _ in range(25)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_training_ends_in_weights_that_know_how_many_people_they_saw(items: list[Item], tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, steps=3)
    settings = {"system": "embedding", "card": {"preset": "pooled"}, "workers": 0, "threads": 1, "quiet": True}
    weights = train(recipe, items, tmp_path / "run", validation=items, measure_every=3, **settings)
    loaded = catalog.load(weights)
    assert loaded.recipe.people == 6
    assert set(loaded.nets) == {"embedding"}
    told = {row.metric: row.value for row in loaded.card.measured}
    assert {"pair_accuracy", "eer", "threshold", "false_accept_rate", "score_at_far_0.01", "frr_at_far_0.01"} <= told.keys()
    counts = {row.metric: row.n for row in loaded.card.measured}  # six people, each of six pictures a clip of its own
    assert counts["pair_accuracy"] == counts["eer"] == counts["template_accuracy"] == 36 * 35 / 2
    assert counts["frr_at_far_0.01"] == counts["tar_at_far_0.01"] == 6 * 15
    assert counts["score_at_far_0.1"] == counts["false_accept_rate"] == 36 * 35 / 2 - 90
    assert counts["rank1"] == counts["template_rank5"] == 30
    assert sum(n for name, n in counts.items() if name.startswith("rank1_yaw_")) == 30
    vectors = loaded.recipe.vectors(loaded.nets, [np.zeros((32, 32, 3), np.uint8)])
    assert vectors.shape == (1, 16) == (1, loaded.recipe.length)
    assert torch.allclose(torch.from_numpy(vectors), unit(torch.from_numpy(vectors)))
