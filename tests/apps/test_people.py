"""`visagist people`: a set of people, continued or refused, each failure one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_people_are_written_and_a_second_run_finds_them(run: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "people"
    asked = ("people", folder, "--count", 3, "--people", 2, "--size", 32)
    first = run(*asked)
    assert first.code == 0, first.err
    assert "3 pictures of 2 rendered people" in first.out
    assert {p.name for p in folder.iterdir()} == {
        "people.csv", "people.json", "person00000_000000.jpg", "person00000_000002.jpg", "person00001_000001.jpg",
    }  # fmt: skip
    table = (folder / "people.csv").read_text()
    assert table.count("\n") == 4
    assert run(*asked, "--quiet").code == 0
    assert (folder / "people.csv").read_text() == table


def test_what_cannot_be_is_said_in_a_line(run: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "people"
    assert run("people", folder, "--count", 1, "--size", 32, "-q").code == 0
    other = run("people", folder, "--count", 1, "--size", 40)
    assert other.code == 3  # all failed
    assert "[exists]" in other.err
    assert "--overwrite" in other.err
    assert run("people", folder, "--count", 1, "--size", 40, "--overwrite", "-q").code == 0
    assert run("people", folder, "--count", 0).code == 2
    assert run("people", folder, "--yaw", 120).code == 2
    (tmp_path / "file").write_text("")
    assert "[" in run("people", tmp_path / "file", "--count", 1).err
