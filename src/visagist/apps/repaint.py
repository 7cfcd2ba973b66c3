"""What `visagist stylize` does beside the picture: the line that tells how far a run is, the film, the sidecar."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visagist.apps.report import as_json
from visagist.errors import OutputError, UsageError

if TYPE_CHECKING:
    from visagist.photo.film import Film
    from visagist.photo.photo import Photo

EVERY = 5  # iterations from one line of the sidecar to the next
FRAMES = 100  # of a film, about
FROM_NOISE = "from noise the bundled feature network hardly finds a picture; take --init content or mixed, or other --features"


class Watch:
    """Follows one run of `api.stylize`: pass it as `progress`.

    say   is told a short text and how much is done (0..1), for the progress bar
    film  gets a frame now and then
    """

    def __init__(self, say: Callable[[str, float], None], film: Film | None = None) -> None:
        self.say, self.film = say, film
        self.losses: list[dict[str, Any]] = []
        self.loss: float | None = None
        self.seconds = 0.0
        self.iterations = 0
        self.stopped = False
        self._filmed = -1

    def __call__(self, progress: Any) -> None:
        if progress.stopped:
            self.stopped = True
            return
        self.iterations += 1
        self.seconds, self.loss = progress.seconds, progress.loss
        done = progress.seconds / max(progress.seconds + progress.left, 1e-9)
        where = f"{progress.scale}/{progress.scales} " if progress.scales > 1 else ""
        minutes, seconds = divmod(round(progress.left), 60)
        text = f"{where}{progress.iteration}/{progress.iterations} loss {progress.loss:.4g} {minutes}:{seconds:02d} left"
        self.say(text, done)
        last = progress.iteration == progress.iterations
        if progress.iteration % EVERY == 1 or last:
            height, width = progress.size
            self.losses.append(
                {"size": [height, width], "iteration": progress.iteration, "loss": progress.loss, "terms": dict(progress.terms)}
            )
        if self.film is not None and (int(done * FRAMES) > self._filmed or last):
            self._filmed = int(done * FRAMES)
            self.film.add(progress.picture())


def at_once(model: str | None, styles: Sequence[str]) -> bool:
    """Whether `api.stylize` paints in one pass, without iterations that could be filmed, when asked for this model and styles."""
    from visagist import catalog

    if model is not None:
        return model != "gatys"
    return len(styles) == 1 and catalog.painting(styles[0]) is not None


def check_networks(model: str | None, styles: Sequence[str], features: str) -> None:
    """What is wrong with the networks that are asked for is said before any photo is opened, also where all results are there."""
    from visagist import catalog

    if model not in (None, "gatys", "fast-style"):
        catalog.check(model, "stylize")
    elif not at_once(model, styles):
        catalog.check(catalog.features_place(features), "stylize")


def sidecar_of(out: str) -> str:
    """The name of a picture's sidecar: "me.stylize.jpg.json"."""
    return out + ".json"


def check_sidecar(out: str, overwrite: bool) -> None:
    """OutputError "exists" before the work where the sidecar would replace a file that is none of ours."""
    path = Path(sidecar_of(out))
    if overwrite or not os.path.lexists(path):
        return
    try:
        ours = "visagist" in json.loads(path.read_bytes()[: 1 << 24])
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        hint = "move it away, or replace it with --overwrite"
        raise OutputError("a file stands where the settings and losses would be written", code="exists", path=path, hint=hint)


def identity(painted: Photo, styles: Sequence[str], model: str | None, features: str) -> dict[str, Any]:
    """Which weights were at work: of the feature network for gatys, else of the network that painted."""
    from visagist import catalog

    if painted.history[-1].system == "gatys":
        loaded = catalog.features(features)
    else:
        loaded = catalog.load(model if model not in (None, "fast-style") else f"fast-style-{styles[0]}")
    card = loaded.card
    return {
        "system": card.system,
        "settings": card.settings,
        "file": os.fspath(loaded.file),
        "sha256": card.sha256,
        "parameters": card.parameters,
        "trained_on": [entry.set for entry in card.trained_on],
    }


def all_settings(painted: Photo, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings a picture was painted with, also those that were not given."""
    from visagist import catalog

    step = painted.history[-1]
    if step.system != "gatys":
        return dict(step.settings)
    fields = {name: value for name, value in given.items() if name not in ("shares", "preset")}
    preset = given.get("preset") or catalog.system("gatys").default_preset
    extra = {name: step.settings[name] for name in ("features", "seed") if name in step.settings}
    return {
        **catalog.settings_of(catalog.recipe("gatys", preset, **fields), preset),
        **extra,
        "shares": list(given.get("shares", ())),
    }


def write_sidecar(
    out: str,
    photo: str,
    painted: Photo,
    styles: Sequence[str],
    watch: Watch,
    *,
    settings: Mapping[str, Any],
    weights: Mapping[str, Any],
) -> str:
    """Write settings, losses, seconds and the identity of the weights beside the picture `out`. Returns the sidecar's name."""
    from importlib.metadata import version

    from visagist.weights.card import write_atomically

    step = painted.history[-1]
    said = {
        "visagist": version("visagist"),
        "photo": photo,
        "styles": list(styles),
        "out": out,
        "size": list(painted.size),
        "system": step.system,
        "settings": dict(settings),
        "weights": dict(weights),
        "seconds": round(watch.seconds, 2),
        "iterations": watch.iterations,
        "stopped": watch.stopped,
        "losses": watch.losses,
    }
    path = sidecar_of(out)
    write_atomically(Path(path), as_json(said).encode() + b"\n")
    return path


def more_settings(given: Sequence[str], system: str = "gatys") -> dict[str, Any]:
    """Settings of a run of this system from texts such as "style_scale=1.2" or "style_layers=conv1_1,conv2_1".

    UsageError for unknown names.
    """
    from visagist import catalog
    from visagist.apps.recipe_options import values_of

    if not given:
        return {}
    recipe = catalog.recipe(system)
    known = dict(vars(recipe))
    texts = {}
    for text in given:
        name, _, value = (part.strip() for part in text.partition("="))
        if name.replace("-", "_") not in known or not value:
            hint = "write NAME=VALUE; names are " + ", ".join(sorted(known))
            raise UsageError(f"there is no setting {text[:60]!r}", code="bad-setting", hint=hint)
        texts[name.replace("-", "_")] = value
    read = values_of(recipe, {**known, **texts})
    return {name: read[name] for name in texts}
