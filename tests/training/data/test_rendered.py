"""Rendered people: labels fit what is drawn, the same seed gives the same people, light falls where it comes from."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from visagist.errors import OutputError
from visagist.head.fit import fit
from visagist.head.morphable import EYES
from visagist.photo.face import Pose, box_of_points
from visagist.training.data import rendered
from visagist.training.data.bust import Bust
from visagist.training.data.complexion import CLASSES, Chart
from visagist.training.data.persons import HAIR_STYLES, Light, Person
from visagist.training.data.readers import read
from visagist.training.data.rendered_folder import Settings, write

PLAIN = {"style": "cropped", "beard": "none", "glasses": "", "female": True, "age": 0.2}
KIND = {name: number for number, name in enumerate(CLASSES)}


def somebody(seed: int = 0, **changed: object) -> rendered.View:
    """Somebody who looks straight ahead, with nothing before the face."""
    seen = rendered.view(seed, 1, size=96, yaw=0, pitch=0)
    moment = replace(seen.moment, expression={}, gaze=(0.0, 0.0), pose=Pose(0.0, 0.0, 0.0), body=(0.0, 0.0), distance=300.0)
    person = replace(seen.person, **{**PLAIN, **changed})  # type: ignore[arg-type]
    return rendered.View.at(person, moment, 96, 0.6, (48.0, 50.0))


def test_the_same_seed_gives_the_same_people_however_many_are_asked_for() -> None:
    few, more = rendered.items(2, 5, size=64, people=2), rendered.items(5, 5, size=64, people=2)
    for a, b in zip(few, more, strict=False):
        assert (a.name, a.person) == (b.name, b.person)
        assert np.array_equal(a.faces[0].points, b.faces[0].points)  # type: ignore[arg-type]
        assert np.array_equal(a.photo.pixels, pickle.loads(pickle.dumps(b)).photo.pixels)
    assert more[0].person == more[2].person == more[4].person != more[1].person
    assert not np.array_equal(more[0].photo.pixels, more[2].photo.pixels)
    assert not np.array_equal(rendered.items(1, 6, size=64)[0].photo.pixels, few[0].photo.pixels)


def test_points_lie_on_what_they_name() -> None:
    view = somebody()
    _, kind = view.drawn()
    p = view.face.points
    assert p is not None

    def at(place: np.ndarray) -> int:
        return int(kind[int(place[1]), int(place[0])])

    for eye in EYES:
        assert at(p[eye].mean(0)) == KIND["eye"]
    assert at((p[57] + p[66]) / 2) == KIND["lips"]
    assert at((p[51] + p[62]) / 2) == KIND["lips"]
    assert at(p[19] + (0, 0.5)) == KIND["brow"] or at(p[24] + (0, 0.5)) == KIND["brow"]
    assert at(p[30]) == at((p[30] + p[2]) / 2) == at((p[30] + p[14]) / 2) == KIND["skin"]
    assert at(p[27] - (0, 30)) in (KIND["hair"], KIND["skin"], KIND["background"])
    assert at(np.array([3, 3])) == KIND["background"]
    for jaw in (2, 14):  # the jaw's points lie on the outline
        out = np.sign(p[jaw, 0] - p[8, 0]) * np.array([5.0, 0])
        assert at(p[jaw] - 1.5 * out) == KIND["skin"]


@pytest.mark.parametrize(("yaw", "pitch"), [(-60, 0), (-30, 10), (25, -15), (70, 5)])
def test_a_fit_finds_the_pose_that_was_drawn(yaw: float, pitch: float) -> None:
    view = somebody()
    turned = rendered.View.at(view.person, replace(view.moment, pose=Pose(yaw, pitch, 8.0)), 96, 0.6, (48.0, 48.0))
    assert turned.face.pose == Pose(yaw, pitch, 8.0)
    p = turned.face.points
    assert p is not None
    assert (p[30, 0] - p[36:48, 0].mean()) * yaw > 0  # the nose points where the head is turned
    assert box_of_points(p) == pytest.approx(turned.face.box)
    found = fit(replace(Bust.bundled().narrow, offsets=None), p).pose
    assert abs(found.yaw - yaw) < 9
    assert abs(found.pitch - pitch) < 9


def test_light_falls_where_it_comes_from() -> None:
    view = somebody()
    sides = []
    for x in (-0.8, 0.8):
        lights = (Light((0, 1, 0.3), 1.0, (0.1,) * 3), Light((x, 0.2, 0.5), 0.3, (0.9,) * 3))
        pixels, kind = rendered.View.at(view.person, replace(view.moment, lights=lights, seed=3), 96, 0.6, (48.0, 50.0)).drawn()
        skin = kind == KIND["skin"]
        sides.append((pixels[:, :46][skin[:, :46]].mean(), pixels[:, 50:][skin[:, 50:]].mean()))
    assert sides[0][0] > sides[0][1] + 30
    assert sides[1][1] > sides[1][0] + 30


def test_the_chin_throws_a_shadow_on_the_throat() -> None:
    bust = Bust.bundled()
    above = (bust.directions[:, 1] > 0.6) & (bust.directions[:, 2] > 0.2)
    _, y, z = bust.model.mean.T
    throat = (np.abs(bust.model.mean[:, 0]) < 2) & (y < -9.5) & (y > -11.5) & (z > 2)
    forehead = (np.abs(bust.model.mean[:, 0]) < 3) & (y > 7) & (y < 9) & (z > 5)
    seen = bust.seen[:, above].mean(1)
    assert seen[forehead].mean() > 0.95 > 0.5 > seen[throat].mean()
    assert np.allclose(bust.seen[:, :32], bust.seen[bust.model.mirror][:, 32:])


def test_every_style_can_be_drawn_in_every_garment() -> None:
    looks = list(product(HAIR_STYLES, ("none", "beard"), ("", "dark")))[::3]
    for number, (style, beard, glasses) in enumerate(looks):
        wear = ("tee", "shirt", "suit", "pullover")[number % 4]
        pattern = ("plain", "stripes", "checks")[number % 3]
        changed = {"style": style, "beard": beard, "glasses": glasses, "female": beard == "none", "wear": wear, "pattern": pattern}
        pixels, kind = somebody(**changed).drawn()
        assert pixels.shape == (96, 96, 3)
        assert (kind == KIND["clothes"]).any()
        assert (kind == KIND["glasses"]).any() == bool(glasses)
        assert (kind == KIND["beard"]).any() == (beard == "beard")
        assert 0.08 < (kind == KIND["skin"]).mean() < 0.7
        assert kind.max() < len(CLASSES)


def test_skin_has_the_colour_it_was_given() -> None:
    model = Bust.bundled().model
    tones = ((0.75, 0.50, 0.38), (0.12, 0.06, 0.04))
    for tone in tones:
        person = replace(somebody().person, skin=tone, freckles=0.0, moles=0)
        cheek, kind = Chart.of(person, model, 6).at(np.array([[5.2, 0.8, 9.0], [-5.2, 0.8, 9.0]]))
        assert (kind == KIND["skin"]).all()
        assert np.allclose(cheek / tone, 1, atol=0.35)


def test_people_differ() -> None:
    people = [Person.drawn(np.random.default_rng(i)) for i in range(200)]
    assert {p.style for p in people} == set(HAIR_STYLES)
    assert 60 < sum(p.female for p in people) < 140
    skins = np.array([np.mean(p.skin) for p in people])
    assert skins.min() < 0.1 < 0.45 < skins.max()
    assert not any(p.female and p.beard != "none" for p in people)


# ---- as a folder


SMALL = Settings(count=5, people=2, size=48, yaw=30.0, seed=3, masks=True)


def test_a_folder_of_people_is_a_set(tmp_path: Path) -> None:
    assert list(write(tmp_path / "people", SMALL)) == [1, 2, 3, 4, 5]
    items = read(tmp_path / "people", needs=("points",))
    assert len(items) == 5
    for index, item in enumerate(items):
        view = SMALL.view(index)
        assert item.name == SMALL.name(index)
        assert item.complete
        assert item.person == f"person{index % 2:05}"
        assert np.abs(item.faces[0].points - view.face.points).max() < 0.01  # type: ignore[operator]
        assert item.facts["yaw"] == pytest.approx(view.moment.pose.yaw, abs=0.06)
        assert np.abs(item.photo.pixels.astype(int) - view.pixels()).mean() < 12  # JPEG
    assert [item.facts["fold"] for item in items] == ["train", "dev", "train", "dev", "train"]  # by person
    assert len(list((tmp_path / "people" / "kinds").iterdir())) == 5
    assert {Settings(count=40, people=20).fold(i) for i in (0, 17)} == {"train"}
    assert {Settings(count=40, people=20).fold(i) for i in (18, 39)} == {"dev"}


@pytest.mark.parametrize(
    ("count", "people", "held"), [(360, 400, 36), (30, 400, 3), (5, 400, 1), (2, 2, 1), (1, 400, 0), (9, 1, 0)]
)
def test_people_to_measure_on_are_among_those_that_are_drawn(count: int, people: int, held: int) -> None:
    settings = Settings(count=count, people=people)
    assert [settings.fold(i) for i in range(count)].count("dev") == held


def test_a_stopped_folder_is_continued_and_no_other_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "people"
    drawing = write(folder, replace(SMALL, masks=False))
    next(drawing)
    drawing.close()
    assert not (folder / "people.csv").exists()
    first = next(folder.glob("*.jpg"))
    when = first.stat().st_mtime_ns
    assert list(write(folder, replace(SMALL, masks=False)))[-1] == 5
    assert first.stat().st_mtime_ns == when
    with pytest.raises(OutputError) as raised:
        list(write(folder, replace(SMALL, seed=4)))
    assert raised.value.code == "exists"
    assert list(write(folder, replace(SMALL, count=1, seed=4), overwrite=True)) == [1]
    assert len(list(folder.glob("*.jpg"))) == 1

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError) as raised:
        list(write(tmp_path / "mine", SMALL))
    assert raised.value.code == "exists"
    (folder / "people.json").write_text("not json")
    with pytest.raises(OutputError):
        list(write(folder, SMALL))
    with pytest.raises(OutputError) as raised:
        list(write(tmp_path / "mine" / "letter.txt", SMALL))
    assert raised.value.code in ("unwritable", "exists")


def test_learnt_skin_changes_the_skin_alone() -> None:
    painted, learnt = (rendered.view(4, 2, size=80, yaw=20, learnt=share) for share in (0.0, 1.0))
    assert np.array_equal(painted.face.points, learnt.face.points)  # type: ignore[arg-type]
    assert painted.facts() == learnt.facts()
    (first, kind), (second, other) = painted.drawn(), learnt.drawn()
    assert (kind == other).mean() > 0.995
    off = np.abs(first.astype(int) - second).max(2)
    assert off[kind == KIND["skin"]].mean() > 10
    assert np.median(off[kind == KIND["background"]]) == 0
