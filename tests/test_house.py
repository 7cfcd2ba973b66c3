"""The rules of the house, checked: who may import whom, what is imported late, what may lie in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import visagist

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "visagist"
GROUND = ("photo", "head", "recipe", "losses", "errors")
ROOMS = ("detect", "landmarks", "makeup", "stylize", "classify", "swap", "rotate", "edit", "generate", "recognize")
# Part of the package -> parts it may import, itself aside. errors is for everybody.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "photo": (),
    "losses": (),
    "head": ("photo",),
    "weights": (),
    "recipe": ("photo",),
    **dict.fromkeys(ROOMS, GROUND),
    "training": ("recipe", "photo", "head", "weights"),
    "systems": ("weights",),
    "catalog": ("systems", "weights", "recipe"),
    "api": ("catalog", "photo", "head"),
    "apps": ("api", "catalog", "training", "photo", "weights"),
    "__init__": ("api", "catalog", "photo", "training"),
    "__main__": ("apps",),
}
# What a package is called when imported, where that is not its name.
IMPORTED_AS = {"pillow": "PIL", "opencv-python-headless": "cv2", "scikit-image": "skimage"}


@cache
def tracked() -> list[Path]:
    """The files of the repository; in a copy without git, the files that git would track there."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        files = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [
            p for p in ROOT.rglob("*") if not any(part.startswith(".") or part == "runs" for part in p.relative_to(ROOT).parts)
        ]
    return [p for p in files if p.is_file()]


def python_files(folder: Path = ROOT) -> list[Path]:
    return [p for p in tracked() if p.suffix == ".py" and p.is_relative_to(folder)]


def text_files() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:4096] and path.suffix not in (".safetensors", ".png", ".jpg"):
            found.append((path.relative_to(ROOT), data.decode("utf-8", errors="replace")))
    return found


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it; `from visagist.photo import boxes` gives visagist.photo.boxes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part_of(module: str) -> str:
    """visagist.photo.boxes.iou -> photo; visagist.api -> api"""
    return [*module.split("."), "__init__"][1]


def our_imports(path: Path) -> set[str]:
    return {m for m in imports(path) if m.split(".")[0] == "visagist"}


def test_parts_import_only_what_lies_below_them() -> None:
    wrong = []
    for path in python_files(SOURCE):
        part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        assert part in MAY_IMPORT, f"{part}: where does it stand in the house? (tests/test_house.py)"
        allowed = {part, "errors", *MAY_IMPORT[part]}
        wrong += [f"{path.relative_to(SOURCE)} imports {m}" for m in our_imports(path) if part_of(m) not in allowed]
    assert not wrong


def test_files_of_a_room_use_earlier_files_only() -> None:
    uses: dict[str, set[str]] = {}
    for path in python_files(SOURCE):
        room = path.relative_to(SOURCE).parts[0]
        if room in ROOMS:
            same = (m.split(".") for m in our_imports(path) if part_of(m) == room)
            uses[f"{room}.{path.stem}"] = {f"{room}.{m[2]}" for m in same if len(m) > 2}
    assert list(TopologicalSorter(uses).static_order())  # raises CycleError


def test_pillow_stays_with_the_photos_and_nothing_reaches_for_a_network() -> None:
    wrong = []
    for path in python_files(SOURCE):
        for module in imports(path):
            top = module.split(".")[0]
            if top == "PIL" and not path.is_relative_to(SOURCE / "photo"):
                wrong.append(f"{path.relative_to(SOURCE)} imports {module}")
            if top in ("requests", "httpx", "aiohttp", "socket", "ftplib") or module.startswith(("urllib.request", "http.client")):
                wrong.append(f"{path.relative_to(SOURCE)} imports {module}")
    assert not wrong


LIGHT = ["visagist", "visagist.errors", "visagist.catalog", "visagist.api", "visagist.weights.card", "visagist.recipe"]


def test_light_modules_do_not_import_torch() -> None:
    names = list(LIGHT)
    for part in ("photo", "head", "apps"):
        names += [f"visagist.{part}.{p.stem}" for p in sorted((SOURCE / part).glob("[a-z]*.py"))]
    heavy = ("torch", "lightning", "skimage", "scipy")
    code = (
        f"import sys\nfor n in {names!r}:\n    __import__(n)\n    for h in {heavy!r}:\n        assert h not in sys.modules, (n, h)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]


def test_files_are_one_idea_long() -> None:
    lines = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files()}
    assert not {name: n for name, n in lines.items() if n > (420 if name.startswith("src") else 450)}


def test_no_name_says_nothing() -> None:
    empty = {"utils", "util", "common", "commons", "helpers", "misc", "lib"}
    assert not [p for p in tracked() if empty & {part.split(".")[0] for part in p.relative_to(ROOT).parts}]


def test_every_module_says_what_it_is() -> None:
    files = [p for p in python_files(SOURCE) if p.stat().st_size]
    assert not [str(p) for p in files if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]


def test_tests_mirror_the_package() -> None:
    folders = {p.parent.relative_to(ROOT / "tests") for p in python_files(ROOT / "tests")}
    assert not [str(f) for f in folders if not (SOURCE / f).is_dir()]


def test_every_room_has_its_page() -> None:
    rooms = [r for r in ROOMS if len(python_files(SOURCE / r)) > 1]
    assert rooms
    assert not [r for r in rooms if not (ROOT / "docs" / f"{r}.md").is_file()]


# ---- what may lie in the repository ----

# Written in pieces, so that this file does not find itself.
PATHS = re.compile(
    r"(?<![\w.~])/(?:" + "|".join(("ho" + "me", "ro" + "ot", "Us" + "ers", "wo" + "rk", "op" + "t", "fa" + "rm")) + r")/\w"
)
SECRETS = re.compile(
    "|".join((r"AKIA[0-9A-Z]{16}", r"gh[pousr]_[A-Za-z0-9]{30}", r"hf_[A-Za-z]{30}", r"xox[abp]-\d", r"AIza[\w-]{35}"))
    + r"|BEGIN [A-Z ]*PRIVATE"
    + " KEY"
)
INDEX = re.compile(r"(?:index-url|find-links)[ =]+[\"']?(?!https://download\.pytorch\.org/)\S+")


@pytest.mark.parametrize("pattern", [PATHS, SECRETS, INDEX], ids=["paths of a machine", "secrets", "package indexes"])
def test_nothing_of_one_machine_is_in_the_repository(pattern: re.Pattern[str]) -> None:
    found = [f"{path}: {hit.group()[:40]}" for path, text in text_files() for hit in pattern.finditer(text)]
    assert not found


def test_the_patterns_find_what_they_are_for() -> None:
    assert PATHS.search("see /ho" + "me/anna/photos")
    assert not PATHS.search("~/ho" + "me/x and a/ho" + "me/b")
    assert SECRETS.search("key = AKIA" + "A" * 16)
    assert INDEX.search("pip install --extra-index" + "-url https://example.org/simple")


def test_files_are_small_and_bundled_weights_stay_within_their_budget() -> None:
    assert not [str(p) for p in tracked() if p.stat().st_size > 12_000_000]
    bundled = SOURCE / "weights" / "bundled"
    assert sum(p.stat().st_size for p in bundled.rglob("*") if p.is_file()) <= 60_000_000


def test_every_bundled_weights_file_has_a_card_that_fits() -> None:
    from visagist import catalog
    from visagist.weights import store

    files = sorted((SOURCE / "weights" / "bundled").glob("*.safetensors"))
    assert {p.stem for p in (SOURCE / "weights" / "bundled").glob("*.json")} == {p.stem for p in files}
    for file in files:
        _, card = store.read(file)  # checks hash, shapes, finiteness
        assert card.system in catalog.SYSTEMS
        assert card.trained_on, f"{file.name}: what was it trained on?"
        assert card.measured, f"{file.name}: how good is it?"
        assert card.limits, f"{file.name}: what can it not do?"
        assert catalog.load(file).card == card


def test_links_between_pages_lead_somewhere() -> None:
    dead = []
    for path, text in text_files():
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#\s]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
                if "://" not in target and not target.startswith("mailto:") and not (ROOT / path.parent / target).exists():
                    dead.append(f"{path}: {target}")
    assert not dead


def test_the_command_line_page_is_what_the_commands_say() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "command_line.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_recipe_in_contributing_trains(tmp_path: Path) -> None:
    from visagist.training.data.made_up import items
    from visagist.training.loop import train

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    weights = train(names["Denoise"](steps=3), items(4, seed=0), tmp_path / "run", system="denoise", workers=0, quiet=True)
    assert weights.is_file()


# ---- dependencies ----


def project() -> dict[str, list[Requirement]]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": table["dependencies"], **table["optional-dependencies"]}
    return {name: [Requirement(line) for line in lines] for name, lines in groups.items()}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    used = {m.split(".")[0] for p in python_files(SOURCE) for m in imports(p)} - {"visagist"} - set(sys.stdlib_module_names)
    declared = {IMPORTED_AS.get(r.name, r.name) for group in ("core", "train") for r in project()[group]}
    assert used == declared


def test_pins_fit_the_ranges() -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    by_name = {canonicalize_name(name): version for name, version in pins.items()}
    assert "+" not in pins["torch"]  # a local suffix would shut out every other build
    assert "torchvision" not in pins
    for requirement in (r for group in project().values() for r in group if r.name != "visagist"):
        assert requirement.specifier.contains(by_name[canonicalize_name(requirement.name)]), requirement


def test_public_names_are_sorted_and_there() -> None:
    assert sorted(visagist.__all__) == visagist.__all__
    assert [name for name in visagist.__all__ if not hasattr(visagist, name)] == []
