"""Weights files: numbers come back, and no damaged, changed or foreign file gets through."""

import hashlib
import json
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visagist.errors import OutputError, VisagistError, WeightsError
from visagist.weights import store
from visagist.weights.card import read_card, write_card

CARD = {
    "system": "yolo",
    "settings": {"preset": "face", "scales": (1, 2)},
    "input": "RGB",
    "paper": "a paper",
    "command": "visagist train yolo",
    "commercial_use": True,
}


def state():
    torch.manual_seed(0)
    return {
        "D.conv.weight": torch.randn(64, 32, 3, 3).to(memory_format=torch.channels_last),
        "D.conv.bias": torch.randn(64),
        "D.norm.num_batches_tracked": torch.tensor(7),
        "map.affine": np.arange(12, dtype=np.float64).reshape(3, 4) / 7,
    }


@pytest.fixture
def file(tmp_path):
    place = tmp_path / "w.safetensors"
    store.save(place, state(), **CARD)
    return place


def rewrite(file, data):
    """Put other bytes in the file with a card that vouches for them."""
    file.write_bytes(data)
    write_card(file, read_card(file).model_copy(update={"sha256": hashlib.sha256(data).hexdigest()}))


def packed(entries, body=b"", metadata=None):
    header = json.dumps({**({"__metadata__": metadata} if metadata else {}), **entries}).encode()
    return struct.pack("<Q", len(header)) + header + body


def fails(file, code, message=None):
    with pytest.raises(WeightsError, match=message) as caught:
        store.read(file)
    assert caught.value.code == code
    assert "\n" not in caught.value.line()
    return caught.value


def test_numbers_come_back(file):
    tensors, card = store.read(file)
    wanted = state()
    assert tensors.keys() == wanted.keys()
    large = tensors["D.conv.weight"]
    assert large.dtype == torch.float32
    assert torch.equal(large, wanted["D.conv.weight"].half().float())
    assert torch.equal(tensors["D.conv.bias"], wanted["D.conv.bias"])  # vectors and small tensors keep all their digits
    np.testing.assert_array_equal(tensors["map.affine"].numpy(), wanted["map.affine"].astype(np.float32))
    assert tensors["D.norm.num_batches_tracked"].item() == 7
    assert card.parameters == 64 * 32 * 9 + 64 + 12
    assert card.settings == {"preset": "face", "scales": [1, 2]}
    assert card.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.stat().st_size < 2.2 * 64 * 32 * 9


def test_the_same_numbers_give_the_same_file(file, tmp_path):
    store.save(tmp_path / "again.safetensors", dict(reversed(state().items())), **CARD)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "again.safetensors", "w.json", "w.safetensors"]


def test_what_does_not_fit_is_not_written(tmp_path):
    for value, code in (
        (torch.full((40, 40), 1e6), "overflow"),
        (torch.tensor([float("nan")]), "not-finite"),
        (torch.tensor([1j]), "wrong-type"),
    ):
        with pytest.raises(WeightsError, match=r"^D\.x ") as caught:
            store.save(tmp_path / "w.safetensors", {"D.x": value}, **CARD)
        assert caught.value.code == code
    with pytest.raises(WeightsError, match="licence: field required") as caught:
        store.save(tmp_path / "w.safetensors", state(), **CARD, trained_on=[{"set": "a", "count": 1}])
    assert caught.value.code == "bad-card"
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        store.save(tmp_path / "file" / "w.safetensors", state(), **CARD)
    assert caught.value.code == "unwritable"


def test_a_run_folder_stands_for_its_weights(tmp_path, file):
    assert store.find(tmp_path) == file  # the only one
    store.save(tmp_path / "other.safetensors", state(), **CARD)
    with pytest.raises(WeightsError, match="several") as caught:
        store.find(tmp_path)
    assert caught.value.code == "missing"
    store.save(tmp_path / store.RUN_WEIGHTS, state(), **CARD)
    assert store.find(tmp_path).name == store.RUN_WEIGHTS


def test_nothing_there(tmp_path):
    fails(tmp_path, "missing", "no weights lie")
    fails(tmp_path / "none.safetensors", "missing", "no such")
    fails(tmp_path / ("x" * 4000), "unreadable")


def test_a_folder_named_like_weights(tmp_path):
    (tmp_path / "w.safetensors").mkdir()
    fails(tmp_path / "w.safetensors", "missing", "no weights lie in this folder")


def test_no_card(file):
    file.with_suffix(".json").unlink()
    fails(file, "no-card", "no card")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1])
def test_truncated(file, length):
    data = file.read_bytes()
    file.write_bytes(data[:length])
    fails(file, "truncated", "bytes|ends inside")


def test_longer_than_it_should_be(file):
    rewrite(file, file.read_bytes() + b"\0")
    fails(file, "not-weights", "are needed")


def test_one_flipped_bit(file):
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    fails(file, "wrong-hash", "sha256")


def test_killed_between_weights_and_card(file):
    """The weights are new, the card still the old one."""
    other = file.with_name("other.safetensors")
    store.save(other, {**state(), "D.conv.bias": torch.zeros(64)}, **CARD)
    other.replace(file)
    fails(file, "wrong-hash")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["<f2", "<f4"])
def test_not_finite(file, bad, kind):
    body = np.array([1, bad], kind).tobytes()
    entry = {"dtype": {"<f2": "F16", "<f4": "F32"}[kind], "shape": [2], "data_offsets": [0, len(body)]}
    rewrite(file, packed({"D.x": entry}, body))
    fails(file, "not-finite", "D.x")


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


def test_files_of_other_formats(file, capsys):
    torch_file = file.with_name("t.pt")
    torch.save({"D.x": torch.zeros(2)}, torch_file)
    picture = b"\x89PNG\r\n\x1a\n" + bytes(100)
    for data in (pickle.dumps(Evil()), torch_file.read_bytes(), picture, b"{}", b'{"a": 1}' * 20, bytes(4096)):
        rewrite(file, data)
        assert fails(file, "truncated" if len(data) < 8 else "not-weights")
    assert "never" not in capsys.readouterr().out


def good(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


BAD = {
    "header not JSON": (struct.pack("<Q", 4) + b"{{{{", "not-weights"),
    "header a deep list": (struct.pack("<Q", 200_001) + b"{" + b"[" * 200_000, "not-weights"),
    "header length of 2^63": (struct.pack("<Q", 1 << 63) + b"{}" * 20, "not-weights"),
    "no tensors": (packed({}, metadata={"format": "pt"}), "not-weights"),
    "entry is text": (packed({"D.x": "y"}), "not-weights"),
    "no offsets": (packed({"D.x": {"dtype": "F32", "shape": [2]}}, bytes(8)), "not-weights"),
    "offsets of three": (packed({"D.x": good(data_offsets=[0, 4, 8])}, bytes(8)), "not-weights"),
    "negative shape": (packed({"D.x": good(shape=[-2])}, bytes(8)), "not-weights"),
    "shape of fractions": (packed({"D.x": good(shape=[2.0])}, bytes(8)), "not-weights"),
    "shape of truths": (packed({"D.x": good(shape=[True, 2])}, bytes(8)), "not-weights"),
    "shape beyond measure": (packed({"D.x": good(shape=[1 << 39] * 3)}, bytes(8)), "not-weights"),
    "shape and bytes differ": (packed({"D.x": good(shape=[3])}, bytes(8)), "not-weights"),
    "end before begin": (packed({"D.x": good(data_offsets=[8, 0])}, bytes(8)), "not-weights"),
    "overlapping": (packed({"D.x": good(), "D.y": good()}, bytes(16)), "not-weights"),
    "beyond the end": (packed({"D.x": good(data_offsets=[8, 16])}, bytes(8)), "not-weights"),
    "more tensors than bytes": (packed({"D.x": good(), "D.y": good(data_offsets=[8, 16])}, bytes(8)), "truncated"),
    "float64": (packed({"D.x": good(dtype="F64", data_offsets=[0, 16])}, bytes(16)), "wrong-type"),
    "unknown type": (packed({"D.x": good(dtype="F8_E4M3", data_offsets=[0, 2])}, bytes(2)), "wrong-type"),
    "type is a list": (packed({"D.x": good(dtype=["F32"])}, bytes(8)), "not-weights"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_headers(file, name):
    data, code = BAD[name]
    rewrite(file, data)
    fails(file, code)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=12))
def test_no_change_of_the_header_gets_further_than_a_weights_error(tmp_path_factory, place, patch):
    file = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    store.save(file, state(), **CARD)
    data = bytearray(file.read_bytes())
    data[place : place + len(patch)] = patch
    rewrite(file, bytes(data))
    try:
        tensors, _ = store.read(file)
    except WeightsError as error:
        assert "\n" not in error.line()
    else:
        assert all(bool(t.isfinite().all()) for t in tensors.values())


def test_state_and_compare():
    nets = {"D": nn.Conv2d(2, 3, 1), "G": nn.Linear(2, 2)}
    tensors = store.state(nets, ("D",))
    assert set(tensors) == {"D.weight", "D.bias"}
    assert store.compare({"D": nets["D"]}, tensors) == []
    problems = store.compare(nets, {"D.weight": torch.zeros(1), "D.bias": torch.zeros(3), "E.x": torch.zeros(1)})
    assert problems == [
        "G.weight is missing",
        "G.bias is missing",
        "E.x is unknown",
        "D.weight has shape [1], not [3, 2, 1, 1]",
    ]
    error = store.mismatch(problems, "w.safetensors")
    assert isinstance(error, VisagistError)
    assert "G.weight is missing, G.bias is missing, E.x is unknown and 1 more" in str(error)


def test_everything_bundled_is_sound():
    """The cards say what they must, and the files are the ones they describe."""
    files = sorted(store.BUNDLED.glob("*.safetensors"))
    for card, file in zip(store.bundled(), files, strict=True):
        assert f"{file.stem}-".startswith(f"{card.system}-")
        store.read(file)
        assert card.trained_on, card.system
        assert card.measured, card.system
        assert card.limits, card.system
    assert sum(p.stat().st_size for p in store.BUNDLED.iterdir()) <= 60e6


def test_eight_bits_keep_each_row_within_half_a_step(tmp_path):
    place = tmp_path / "w.safetensors"
    card = store.save(place, state(), bits=8, **CARD)
    assert card.parameters == 64 * 32 * 9 + 64 + 12
    assert place.stat().st_size < 1.1 * 64 * 32 * 9 + 2000
    found, _ = store.read(place)
    wanted = state()["D.conv.weight"]
    assert set(found) == set(state())
    step = wanted.flatten(1).abs().amax(1)[:, None, None, None] / 127
    assert bool(((found["D.conv.weight"] - wanted).abs() <= 0.501 * step).all())
    assert torch.equal(found["D.conv.bias"], state()["D.conv.bias"])  # small tensors keep their digits


@pytest.mark.parametrize("wrong", ["missing", "length", "type"])
def test_eight_bits_without_fitting_steps(tmp_path, wrong):
    from safetensors.torch import save

    place = tmp_path / "w.safetensors"
    store.save(place, state(), bits=8, **CARD)
    tensors = {"a": torch.ones(4, 3, dtype=torch.int8), "a:step": torch.ones(4)}
    if wrong == "missing":
        del tensors["a:step"]
    else:
        tensors["a:step"] = torch.ones(3) if wrong == "length" else torch.ones(4, dtype=torch.int32)
    rewrite(place, save(tensors))
    fails(place, "wrong-shape", "a has no fitting steps")
