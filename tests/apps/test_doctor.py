from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageCms

from visagist import catalog
from visagist.apps.doctor import profile_name
from visagist.weights import store

Write = Callable[..., Path]
Run = Callable[..., Any]


def test_doctor_shows_how_a_photo_was_made(here: Path, photo: Write, run: Run) -> None:
    photo("a.jpg", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    run("makeup", "a.jpg", "--finish", "tint")
    run("makeup", "a.makeup.jpg", "--finish", "glossy", "-o", "twice.jpg")
    done = run("doctor", "twice.jpg", "--json")
    (report,) = done.records
    seen = report["photo"]
    assert (done.code, seen["format"], seen["size"], seen["profile"]) == (0, "JPEG", [40, 60], "sRGB built-in")
    assert [(s["verb"], s["settings"]["finish"]) for s in seen["history"]] == [("makeup", "tint"), ("makeup", "glossy")]
    text = run("doctor", "twice.jpg").out
    assert "step 2   makeup by fake (weights 000000000000): finish glossy" in text
    assert "no step of visagist" in run("doctor", "a.jpg").out


def test_doctor_reports_notes_and_failures(here: Path, photo: Write, run: Run) -> None:
    from PIL import Image

    Image.new("I;16", (20, 10), 30_000).save("deep.png")
    assert any("16" in note for note in run("doctor", "deep.png", "--json").records[0]["photo"]["notes"])
    done = run("doctor", "gone.png")
    assert (done.code, done.err) == (3, "gone.png: [missing] there is no such file\n")
    assert "processor" in done.out


def test_doctor_finds_damaged_weights(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr(store, "BUNDLED", here)
    about = {"input": "a mouth", "paper": "none", "command": "visagist train lipstick", "commercial_use": False}
    figures = [{"metric": "glazed_mse", "value": 200.5, "n": 30, "set": "lips", "fold": "dev"}]
    store.save(here / "lipstick.safetensors", {"a.b": np.zeros(3)}, system="lipstick", settings={}, measured=figures, **about)
    (report,) = run("doctor", "--json").records
    assert [(w["system"], w["state"]) for w in report["weights"]] == [("lipstick", "sound")]
    rows = {row["system"]: row for row in run("models", "--json").records}
    assert list(rows) == list(catalog.SYSTEMS)
    assert (rows["lipstick"]["bundled"], rows["lipstick"]["commercial_use"], rows["yolo"]["bundled"]) == (True, False, False)
    assert rows["lipstick"]["measured"] == figures
    assert "glazed_mse 200.5 (n 30, lips dev)" in run("models").out

    data = bytearray(Path("lipstick.safetensors").read_bytes())
    data[-1] ^= 1
    Path("lipstick.safetensors").write_bytes(data)
    done = run("doctor")
    assert (done.code, "[wrong-hash]" in done.err) == (2, True)
    Path("lipstick.json").unlink()
    for command in ("doctor", "models"):
        done = run(command)
        assert (done.code, "[no-card]" in done.err, len(done.err.splitlines())) == (2, True, 1)


def test_names_of_profiles() -> None:
    assert profile_name(None).startswith("sRGB")
    assert profile_name(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()) == "sRGB built-in"
    for wrong in (b"", b"\xff" * 200, bytes(132) + b"\0\0\0\1desc\xff\xff\xff\xff\xff\xff\xff\xff"):
        assert profile_name(wrong) == f"unnamed ({len(wrong)} bytes)"


def test_doctor_json_is_json(run: Run) -> None:
    assert json.loads(run("doctor", "--json").out)["packages"]["torch"]
