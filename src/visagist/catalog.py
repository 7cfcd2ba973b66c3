"""The way from a system's name to its recipe and its networks. The systems are those of the table in `systems`.

Rooms are imported on use, so that listing the systems needs no torch.
"""

from __future__ import annotations

import difflib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from visagist.errors import UsageError, WeightsError
from visagist.systems import BROUGHT, PAINTINGS, SYSTEMS, Overrides, System
from visagist.weights import device as devices
from visagist.weights import store
from visagist.weights.card import WeightsCard, read_card, summary

if TYPE_CHECKING:
    import torch

    from visagist.recipe import Networks, Recipe


@dataclass(frozen=True, eq=False)
class Loaded:
    """A system ready for use. Shared by everybody who asks for it: read only.

    recipe  the settings the networks were trained with; has the method of its verb (`recipe.detect(nets, photo, ...)`)
    nets    the shipped networks on `device`, frozen, see `weights.device.prepare`
    """

    system: System
    recipe: Any
    nets: Networks
    card: WeightsCard
    device: torch.device
    file: Path

    def inference(self) -> AbstractContextManager[object]:
        """The context in which a verb uses the networks: nothing is recorded for gradients."""
        import torch

        return torch.inference_mode()

    @property
    def half(self) -> bool:
        """Whether bfloat16 is quicker than float32 where the networks are."""
        return devices.quick_bfloat16(self.device)

    @property
    def available(self) -> float:
        """Bytes of memory that are free there, less a reserve."""
        return devices.available(self.device)


def system(name: str) -> System:
    """The row of this name. UsageError "unknown-system" that names the nearest ones."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    near = difflib.get_close_matches(name, SYSTEMS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "there are " + ", ".join(SYSTEMS)
    raise UsageError(f"there is no system {name[:60]!r}", code="unknown-system", hint=hint)


def _preset(row: System, preset: str | None) -> tuple[str, Overrides]:
    name = row.default_preset if preset is None else preset
    if name not in row.presets:
        hint = "there are " + ", ".join(row.presets)
        raise UsageError(f"{row.name} has no preset {name[:60]!r}", code="unknown-preset", hint=hint)
    return row.presets[name]


def recipe_class(name: str, preset: str | None = None) -> type[Recipe]:
    """The class behind a system and preset (default the first); imports its room."""
    module, _, attribute = _preset(system(name), preset)[0].partition(":")
    found: type[Recipe] = getattr(import_module(module), attribute)
    return found


def recipe(name: str, preset: str | None = None, **settings: Any) -> Recipe:
    """The recipe of a system: the preset's settings, changed by these. UsageError "bad-setting" for what does not fit the class."""
    cls = recipe_class(name, preset)
    try:
        return _made(cls, {**_preset(system(name), preset)[1], **settings})
    except ValueError as error:
        raise UsageError(f"{name}: {error}", code="bad-setting") from None


def settings_of(recipe: Recipe, preset: str) -> dict[str, Any]:
    """What the card keeps of a recipe, ready for JSON: the preset and every field."""
    made: dict[str, Any] = json.loads(json.dumps({"preset": preset, **asdict(recipe)}))
    return made


def _made(cls: type[Recipe], settings: Overrides) -> Recipe:
    """An instance of the class from settings as JSON has them (lists for tuples). ValueError in one line when they do not fit.

    A field that the settings lack takes its default: recipes grow, and a new field's default is what was done before it.
    """
    known = [field.name for field in fields(cls)]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ValueError(f"{cls.__name__} has no setting {', '.join(name[:40] for name in unknown[:3])}")
    try:
        return TypeAdapter(cls).validate_json(json.dumps(dict(settings)), strict=True)
    except ValidationError as error:
        raise ValueError(summary(error)) from None


_cache: dict[tuple[Path, str], tuple[tuple[int, ...], Loaded]] = {}
_lock = threading.RLock()


def load(name: str | os.PathLike[str], device: str = "auto", *, verb: str | None = None) -> Loaded:
    """A system ready for use, by its name (the bundled weights), or by the path of a weights file or run folder.

    A name of the table wins over a path; write "./yolo" for a folder of that name. Kept: asking again for the same, unchanged
    file and device costs nothing. verb: what the system must be able to do. UsageError: unknown-system, wrong-verb, no-device;
    WeightsError: whatever can be wrong with a file.
    """
    where = devices.choose(device)
    file = _file_of(name, verb)
    state = tuple(v for p in (file, file.with_suffix(".json")) if p.exists() for v in (p.stat().st_mtime_ns, p.stat().st_size))
    key = file.resolve(), str(where)
    with _lock:  # two threads that ask at once get one copy
        if key not in _cache or _cache[key][0] != state:
            _cache[key] = state, _read(file, where)
        loaded = _cache[key][1]
    _check_verb(loaded.system, verb, str(name))
    return loaded


def check(name: str | os.PathLike[str], verb: str) -> None:
    """What `load` would raise for a name or path, as far as the card tells it: networks are not read, torch is not imported."""
    file = _file_of(name, verb)
    row = SYSTEMS.get(read_card(file).system)
    if row is not None:
        _check_verb(row, verb, os.fspath(name))


def features(name: str | os.PathLike[str], device: str = "auto") -> Loaded:
    """A feature network under the net name "features", by name, path or run folder. WeightsError, UsageError "wrong-verb"."""
    loaded = load(features_place(name), device, verb="stylize")
    if "features" not in loaded.nets:
        hint = f"choose perceptual, {', '.join(BROUGHT)}, or a weights file of one of them"
        raise UsageError(f"{os.fspath(name)[:80]} is {loaded.system.name}, not a feature network", code="wrong-verb", hint=hint)
    return loaded


def features_place(name: str | os.PathLike[str]) -> str:
    """The name or path under which `load` finds a feature network. WeightsError "missing" for one that nobody has brought."""
    text = os.fspath(name)
    if text in BROUGHT and not os.path.exists(text):
        text = f"./{text}{store.SUFFIX}"
        if not os.path.isfile(text):
            hint = f"make it with `visagist convert FILE --network {name}`, or name another place with --features PATH"
            raise WeightsError(f"the weights of {name} do not come with visagist", code="missing", path=text, hint=hint)
    return text


def painting(name: object) -> Path | None:
    """The picture of the painting of this name; None for another name, or where there is a file of this name."""
    known = isinstance(name, str) and name in PAINTINGS and not os.path.exists(name)
    return Path(__file__).parent / "stylize" / "paintings" / f"{name}.jpg" if known else None


def forget() -> None:
    """Drop all networks that `load` keeps; their memory goes when nobody else uses them."""
    with _lock:
        _cache.clear()


def _file_of(name: str | os.PathLike[str], verb: str | None) -> Path:
    text = os.fspath(name)
    row = next((row for row in SYSTEMS.values() if text == row.name or text in row.names), None)
    if row is not None:
        _check_verb(row, verb, text)
        file = row.bundled if text == row.name else row.files.get(text)
        if file is None:
            hint = f"train it with `visagist train {row.name} --data PATH --out RUN` and name the run folder instead"
            raise WeightsError(f"no weights for {text} came with this version", code="missing", hint=hint)
        return file
    if os.path.exists(text) or os.sep in text or text.endswith(store.SUFFIX):
        return store.find(text)
    system(text)
    raise AssertionError("unreachable: an unknown name raises")


def _check_verb(row: System, verb: str | None, asked: str) -> None:
    if verb is not None and row.verb != verb:
        fitting = ", ".join(other.name for other in SYSTEMS.values() if other.verb == verb)
        what = f"{asked[:80]} is {row.name}, a system for {row.verb}, not for {verb}"
        raise UsageError(what, code="wrong-verb", hint=f"for {verb} there are: {fitting}")


def _read(file: Path, where: torch.device) -> Loaded:
    tensors, card = store.read(file)
    if card.system not in SYSTEMS:
        what = f"the weights are for {card.system[:60]!r}, a system this version does not know"
        raise WeightsError(what, code="wrong-system", path=file)
    recipe = _recipe_of(card, file)
    try:
        nets = _fitting(recipe, tensors, file)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"the card's settings make no network ({error})", code="wrong-settings", path=file) from None
    for prefix, net in nets.items():
        own = {name.removeprefix(prefix + "."): value for name, value in tensors.items() if name.startswith(prefix + ".")}
        net.load_state_dict(own, strict=True)
        devices.prepare(net, where, exact=recipe.exact)
    return Loaded(SYSTEMS[card.system], recipe, nets, card, where, file)


def _fitting(recipe: Recipe, tensors: Mapping[str, torch.Tensor], file: Path) -> Networks:
    """The recipe's networks, to which these tensors belong. WeightsError "wrong-shape".

    A card may lie about sizes, so nothing is allocated before names and shapes are known to fit. Those that came with visagist are
    not asked: for most networks the question alone imports torch's compiler, which takes about as long as torch itself.
    """
    import torch

    problems: list[str] = []
    if file.parent != store.BUNDLED:
        try:
            with torch.device("meta"):
                problems = store.compare(_shipped(recipe), tensors)
        except RuntimeError:  # a network that computes while it is built needs memory to be built
            pass
    if not problems:
        with torch.random.fork_rng(devices=[]):  # networks draw their first weights; loading must not disturb anybody's seed
            nets = _shipped(recipe)
        problems = store.compare(nets, tensors)
    if problems:
        raise store.mismatch(problems, file)
    return nets


def _recipe_of(card: WeightsCard, file: Path) -> Recipe:
    """The recipe as the card tells it."""
    settings = dict(card.settings)
    row = SYSTEMS[card.system]
    preset = settings.pop("preset", "") or row.default_preset  # a recipe made in Python need not be a preset
    if not isinstance(preset, str) or preset not in row.presets:
        hint = f"{row.name} has " + ", ".join(row.presets)
        raise WeightsError(f"the card names the preset {str(preset)[:40]!r}", code="wrong-settings", path=file, hint=hint)
    try:
        return _made(recipe_class(row.name, preset), settings)
    except ValueError as error:
        raise WeightsError(f"the card's settings do not fit: {error}", code="wrong-settings", path=file) from None


def _shipped(recipe: Recipe) -> Networks:
    nets = recipe.networks()
    return {name: nets[name] for name in recipe.ships or tuple(nets)}
