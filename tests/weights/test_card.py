"""The card: what it holds comes back, and everything that can be wrong with one is one clear line."""

import json
import math
import subprocess
import sys

import pytest

from visagist.errors import OutputError, WeightsError
from visagist.weights.card import MAX_CARD_BYTES, Made, Measured, TrainedOn, WeightsCard, card_path, read_card, write_card


def card(**changes):
    fields = {
        "system": "yolo",
        "settings": {"preset": "face", "width": 16, "rate": 2e-3, "scales": [1, 2], "name": "x", "flag": True, "none": None},
        "sha256": "0" * 64,
        "parameters": 12,
        "input": "RGB in [-1, 1]",
        "trained_on": (TrainedOn(set="frames", fold="train", count=3, licence="CC BY 4.0"),),
        "commercial_use": True,
        "measured": (
            Measured(metric="ap50", value=0.97, n=8, set="frames", fold="dev"),
            Measured(metric="n", value=8, n=8, set="x"),
        ),
        "limits": ("small faces",),
        "paper": "Redmon et al. 2016",
        "made": Made(date="2026-11-30", command="visagist train yolo"),
    }
    return WeightsCard(**{**fields, **changes})


def test_what_is_written_is_read(tmp_path):
    weights = tmp_path / "脸 a.safetensors"
    write_card(weights, card())
    assert read_card(weights) == card()
    assert [p.name for p in tmp_path.iterdir()] == ["脸 a.json"]  # no temporary files stay
    assert read_card(weights).preset == "face"


def test_the_card_lies_beside_the_weights():
    assert card_path("runs/a.b/weights.v2.safetensors").as_posix() == "runs/a.b/weights.v2.json"


def test_no_card(tmp_path):
    with pytest.raises(WeightsError, match="no card") as caught:
        read_card(tmp_path / "w.safetensors")
    assert caught.value.code == "no-card"
    assert caught.value.exit_code == 2


def changed(**changes):
    content = card().model_dump(mode="json")
    for name, value in changes.items():
        if value is KeyError:
            del content[name]
        else:
            content[name] = value
    return json.dumps(content).encode()


BAD = {
    "empty": (b"", "bad-card", "not JSON"),
    "binary": (b"\x80\x04\x95\xff", "bad-card", "not JSON"),
    "cut": (changed()[:-5], "bad-card", "not JSON"),
    "deep": (b"[" * 500_000, "bad-card", "not JSON"),
    "long number": (changed().replace(b'"parameters": 12', b'"parameters": ' + b"9" * 5000), "bad-card", "not JSON"),
    "long": (b" " * (MAX_CARD_BYTES + 1), "bad-card", "longer"),
    "a list": (b"[]", "bad-card", "not a JSON object"),
    "no format": (changed(format=KeyError), "bad-format", "format unnamed"),
    "newer format": (changed(format=2), "bad-format", "newer visagist"),
    "format as truth": (changed(format=True), "bad-format", "format true"),
    "format as text": (changed(format="1"), "bad-format", 'format "1"'),
    "missing field": (changed(system=KeyError), "bad-card", "system: field required"),
    "unknown field": (changed(sistem="x"), "bad-card", "sistem: extra inputs"),
    "number as text": (changed(parameters="12"), "bad-card", "parameters: input should be a valid integer"),
    "negative": (changed(parameters=-1), "bad-card", "parameters: "),
    "short hash": (changed(sha256="abc"), "bad-card", "sha256: "),
    "NaN measured": (
        changed(measured=[{"metric": "a", "value": math.nan, "n": 1, "set": "x"}]),
        "bad-card",
        "measured.0.value",
    ),
    "NaN setting": (changed(settings={"rate": math.nan}), "bad-card", "settings.rate"),
    "settings a list": (changed(settings=[]), "bad-card", "settings: "),
    "wrong licence": (changed(trained_on=[{"set": "a", "count": 1, "licence": 3}]), "bad-card", "trained_on.0.licence"),
    "everything wrong": (b'{"format": 1}', "bad-card", "and [0-9]+ more"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_cards(name, tmp_path):
    content, code, message = BAD[name]
    (tmp_path / "w.json").write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_card(tmp_path / "w.safetensors")
    assert caught.value.code == code
    assert "\n" not in caught.value.line()
    assert len(str(caught.value)) < 400


def test_a_folder_in_the_cards_place(tmp_path):
    (tmp_path / "w.json").mkdir()
    with pytest.raises(WeightsError, match="cannot be read") as caught:
        read_card(tmp_path / "w.safetensors")
    assert caught.value.code == "bad-card"


def test_a_failed_write_leaves_the_old_card(tmp_path):
    weights = tmp_path / "w.safetensors"
    write_card(weights, card())
    with pytest.raises(OutputError) as caught:
        write_card(tmp_path / "nowhere" / "w.safetensors", card())
    assert caught.value.code == "unwritable"
    assert read_card(weights) == card()


def test_cards_need_no_torch():
    code = "import sys; from visagist.weights import card, store; store.bundled(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
