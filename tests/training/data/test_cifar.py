"""CIFAR's files: the same pictures from binary files, pickles, folders and tars; what is damaged or foreign is refused."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visagist.errors import OutputError, TrainingError
from visagist.photo.photo import Photo
from visagist.recipe import Item
from visagist.training.data import cifar, cifar_pickles
from visagist.training.data.readers import read

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
LABELS = [i % 10 for i in range(20)]


def binary(folder: Path) -> Path:
    """Sixteen pictures to learn from, four for the test."""
    folder.mkdir(parents=True, exist_ok=True)
    cifar.write(folder / "data_batch_1.bin", LABELS[:8], PICTURES[:8])
    cifar.write(folder / "data_batch_2.bin", LABELS[8:16], PICTURES[8:16])
    cifar.write(folder / "test_batch.bin", LABELS[16:], PICTURES[16:])
    (folder / "batches.meta.txt").write_text("\n".join(cifar.CLASSES) + "\n\n")
    return folder


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))


def pickled(folder: Path) -> Path:
    """The same in the layout of cifar-10-batches-py."""
    for name, part in (("data_batch_1", slice(0, 8)), ("data_batch_2", slice(8, 16)), ("test_batch", slice(16, 20))):
        rows = PICTURES[part].reshape(-1, 3072)
        files = [f"{i}.png".encode() for i in range(len(rows))]
        dump(folder / name, {b"batch_label": b"one", b"labels": LABELS[part], b"data": rows, b"filenames": files})
    dump(
        folder / "batches.meta", {b"num_cases_per_batch": 8, b"label_names": [c.encode() for c in cifar.CLASSES], b"num_vis": 3072}
    )
    return folder


def as_folder(folder: Path) -> Path:
    for i, (label, picture) in enumerate(zip(LABELS, PICTURES)):
        path = folder / ("train" if i < 16 else "test") / cifar.CLASSES[label] / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Photo.of(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(path)
    return folder


def as_tars(folder: Path, pictures: Path) -> Path:
    folder.mkdir()
    for part in ("train", "test"):
        with tarfile.open(folder / f"cifar_{part}.tar", "w") as tar:
            tar.add(pictures / part, part)
    return folder


def shown(items: list[Item]) -> dict[bytes, tuple[int | None, float | str, float | str]]:
    """Pixels -> label, class, fold."""
    return {item.photo.pixels.tobytes(): (item.label, item.facts["class"], item.facts["fold"]) for item in items}


@pytest.mark.parametrize("fold", ["train", "dev", "all"])
def test_all_layouts_give_the_same_pictures(tmp_path: Path, fold: str) -> None:
    folder = as_folder(tmp_path / "folder")
    cifar_pickles.convert(pickled(tmp_path / "pickled"), tmp_path / "converted")
    sets = [binary(tmp_path / "binary"), tmp_path / "converted", folder, as_tars(tmp_path / "tars", folder)]
    found = [shown(read(path, fold=fold, needs=("label",))) for path in sets]
    assert len(found[0]) == {"train": 16, "dev": 4, "all": 20}[fold]
    first = PICTURES[16 if fold == "dev" else 0].transpose(1, 2, 0).tobytes()
    assert found[0][first] == (6, "frog", "dev") if fold == "dev" else found[0][first] == (0, "airplane", "train")
    assert all(one == found[0] for one in found[1:])


def test_conversion_gives_the_very_bytes_of_the_binary_set(tmp_path: Path) -> None:
    made = cifar_pickles.convert(pickled(tmp_path / "pickled"), tmp_path / "out")
    assert [p.name for p in made] == ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin", "batches.meta.txt"]
    wanted = binary(tmp_path / "binary")
    assert all((wanted / p.name).read_bytes().rstrip() == p.read_bytes().rstrip() for p in made)


def test_a_single_file_is_a_set(tmp_path: Path) -> None:
    items = read(binary(tmp_path) / "data_batch_2.bin")
    assert len(items) == 8 and items[0].name == "data_batch_2.bin:1"


def test_cifar100_has_fine_classes_and_groups(tmp_path: Path) -> None:
    marks = np.stack([np.arange(20) % 20, np.arange(20) * 5], 1)
    cifar.write(tmp_path / "train.bin", marks, PICTURES)
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))
    (tmp_path / "coarse_label_names.txt").write_text("\n".join(f"coarse{i}" for i in range(20)))
    items = read(tmp_path)
    assert [(i.label, i.facts["class"], i.facts["group"]) for i in items[:2]] == [(0, "fine0", "coarse0"), (5, "fine5", "coarse1")]
    assert np.array_equal(items[3].photo.pixels, PICTURES[3].transpose(1, 2, 0))


def test_pickled_cifar100_keeps_both_labels(tmp_path: Path) -> None:
    rows = {b"data": PICTURES.reshape(-1, 3072), b"fine_labels": list(range(20)), b"coarse_labels": [i // 5 for i in range(20)]}
    dump(tmp_path / "p" / "train", rows)
    dump(tmp_path / "p" / "meta", {b"fine_label_names": [b"f%d" % i for i in range(100)], b"coarse_label_names": [b"c"] * 20})
    cifar_pickles.convert(tmp_path / "p", tmp_path / "out")
    items = read(tmp_path / "out", fold="train")
    assert [(i.label, i.facts["class"]) for i in items[:2]] == [(0, "f0"), (1, "f1")] and items[0].facts["group"] == "c"


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[:-1], lambda d: d[:3000], lambda d: b"", lambda d: d + b"more"],
    ids=["a byte short", "less than a picture", "empty", "a tail"],
)
def test_truncated_and_foreign_binary_files_are_refused(tmp_path: Path, damage: Any) -> None:
    file = binary(tmp_path) / "data_batch_2.bin"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(TrainingError, match=r"data_batch_2\.bin.*whole number of pictures") as caught:
        read(tmp_path)
    assert caught.value.code == "bad-data"
    assert len(read(tmp_path, skip_bad=True)) == 12


def test_a_label_beyond_the_classes_is_named(tmp_path: Path) -> None:
    cifar.write(tmp_path / "test_batch.bin", [1, 2, 11, 3], PICTURES[:4])
    with pytest.raises(TrainingError, match="picture 3 has the label 11, but there are 10 classes"):
        read(tmp_path)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("hacked",)


@pytest.mark.parametrize(
    "value",
    [
        Evil(),
        {b"data": Evil(), b"labels": [1]},
        {b"data": np.zeros((2, 3072), np.float32), b"labels": [1, 2]},
        {b"data": np.zeros((2, 3072), object), b"labels": [1, 2]},
        {b"data": np.zeros((2, 3071), np.uint8), b"labels": [1, 2]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, -2]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, "2"]},
        {b"data": np.zeros((0, 3072), np.uint8), b"labels": []},
        {b"labels": [1]},
        [1, 2],
    ],
)
def test_pickles_that_are_no_pictures_are_refused_and_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    dump(tmp_path / "p" / "data_batch_1", value)
    with pytest.raises(TrainingError) as caught:
        cifar_pickles.convert(tmp_path / "p", tmp_path / "out")
    assert caught.value.code == "bad-data" and caught.value.path is not None and caught.value.path.endswith("data_batch_1")
    assert not (tmp_path / "hacked").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data", [b"", b"not a pickle", b"\x80\x02", b"cos\nsystem\n(S'true'\ntR.", b"c_codecs\nencode\n(Vx\nVrot13\ntR."]
)
def test_damaged_pickles_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "test_batch").write_bytes(data)
    with pytest.raises(TrainingError) as caught:
        cifar_pickles.convert(tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_truncated_pickle_is_refused(tmp_path: Path) -> None:
    file = pickled(tmp_path / "p") / "test_batch"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(TrainingError, match="no pickle of pictures"):
        cifar_pickles.convert(tmp_path / "p", tmp_path / "out")


def test_conversion_replaces_nothing_and_needs_something(tmp_path: Path) -> None:
    cifar_pickles.convert(pickled(tmp_path / "p"), tmp_path / "out")
    with pytest.raises(OutputError, match="exists already"):
        cifar_pickles.convert(tmp_path / "p", tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(TrainingError, match="no pickled files"):
        cifar_pickles.convert(tmp_path / "none", tmp_path / "other")
    assert cifar_pickles.is_pickles(tmp_path / "p") and not cifar_pickles.is_pickles(tmp_path / "out")


def test_reading_never_opens_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no pictures here; `visagist convert`"):
        read(pickled(tmp_path))
