"""`visagist train SYSTEM` and `visagist evaluate SYSTEM`. The options of a training come from the fields of its recipe."""

from __future__ import annotations

import inspect
import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visagist.apps import locating
from visagist.apps.commands import Command, Group
from visagist.apps.recipe_options import options_of, values_of
from visagist.apps.report import as_json, waiting
from visagist.errors import FaceError, OutputError, PhotoError, TrainingError, UsageError, VisagistError

if TYPE_CHECKING:
    from visagist.photo.face import Face
    from visagist.photo.photo import Photo

HELP_NAMES = {"help_option_names": ["-h", "--help"]}

Data = Annotated[
    list[str],
    typer.Option("--data", metavar="PATH...", help="One or several sets: folders, or tar + csv as they lie.", show_default=False),
]
Out = Annotated[str, typer.Option("--out", "-o", metavar="RUN", help="The run folder.", show_default=False)]
Fold = Annotated[str, typer.Option("--fold", metavar="train|dev|all", help="Which rows, in sets that have folds.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave damaged rows and pictures out and say how many.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of torch; default: as many as there are cores.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; failures are always told.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="An explicit device never falls back.")]


@contextmanager
def _as_training() -> Iterator[None]:
    """A photo that cannot be read or a file that cannot be written ends a training: exit code 4."""
    try:
        yield
    except (PhotoError, FaceError, OutputError) as error:
        raise TrainingError(error.what, code=error.code, path=error.path, hint=error.hint) from error


class SeveralData(Command):
    """A command whose `--data A B C` takes everything up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return Command.parse_args(self, ctx, spread(args, "--data"))


def spread(arguments: Sequence[str], option: str) -> list[str]:
    """`--data A B` as `--data A --data B`, which is what the parser knows. Nothing behind `--` is touched."""
    out: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*out, argument, *rest]
        out.append(argument)
        if argument == option and rest and not rest[0].startswith("-"):
            out.append(rest.pop(0))
            while rest and not rest[0].startswith("-"):
                out += [option, rest.pop(0)]
    return out


class Systems(Group):
    """`visagist train`: each system of the table is a command, made when it is asked for, because that imports its room."""

    def list_commands(self, ctx: Any) -> list[str]:
        from visagist import catalog

        return list(catalog.SYSTEMS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """What the list of systems shows: a name and a line."""
        from visagist import catalog

        row = catalog.SYSTEMS.get(name)
        return None if row is None else _command(lambda: 0, name, f"{row.paper} (presets: {', '.join(row.presets)})")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        return name, training_of(name, _preset_in(args[1:])), args[1:]


def _preset_in(arguments: Sequence[str]) -> str | None:
    """The value of --preset: it decides which other options there are."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--":
            break
        if argument == "--preset":
            found = following
        elif argument.startswith("--preset="):
            found = argument.partition("=")[2]
    return found


def training_of(system: str, preset: str | None) -> Any:
    """The command `visagist train SYSTEM`, with every field of the preset's recipe as an option."""
    from visagist import catalog

    row = catalog.system(system)
    name = preset or row.default_preset
    recipe = catalog.recipe(system, name)
    own = {key: p for key, p in inspect.signature(_train, eval_str=True).parameters.items() if p.kind is p.KEYWORD_ONLY}
    named = Annotated[str, typer.Option("--preset", metavar="|".join(row.presets), help="Which settings are the defaults below.")]
    own["preset"] = inspect.Parameter("preset", inspect.Parameter.KEYWORD_ONLY, default=name, annotation=named)
    parameters = {**own, **options_of(recipe, frozenset(own))}

    def run(**given: Any) -> int:
        changed = catalog.recipe(system, name, **values_of(recipe, given))
        return _train(system, name, changed, **{key: given[key] for key in own if key != "preset"})

    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {key: p.annotation for key, p in parameters.items()}
    return _command(run, system, f"Train {system} ({name}). {row.paper}")


def _command(run: Callable[..., int], name: str, text: str) -> Any:
    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    one.command(name, cls=SeveralData, help=text, context_settings=HELP_NAMES)(run)
    return typer.main.get_command(one)


@_as_training()
def _train(
    system: str,
    preset: str,
    recipe: Any,
    *,
    data: Data,
    out: Out,
    fold: Fold = "train",
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="NAME|RUN|FILE", help="Begin with these instead of random numbers.")
    ] = None,
    blend: Annotated[
        float, typer.Option("--blend", min=0, max=1, help="Share of what is learnt in the result; the rest is of --weights.")
    ] = 1.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's checkpoint.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same run.")] = 0,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option("--precision", metavar="auto|fp32|bf16", help="auto: bf16 where it is native.")
    ] = "auto",
    skip_bad: SkipBad = False,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that make examples; the result does not depend on it.")
    ] = 1,
    threads: Threads = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Training processes on this machine.")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines that take part.")] = 1,
    licence: Annotated[str, typer.Option("--licence", help="Terms of the data, for the weights card.")] = "not stated",
    commercial_use: Annotated[
        bool, typer.Option("--commercial-use", help="The data's terms allow it; goes onto the card.")
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Read the data, train, say where the weights are. Returns 0; everything else is raised."""
    from visagist import catalog

    with _extra("train"):
        from visagist.training.data.pictures import warm
        from visagist.training.data.readers import check_classes, read
        from visagist.training.loop import train

    start = None if weights is None else catalog.load(weights, device).file
    lent, pictures = _borrowed(recipe, device)
    classes = _classes(system, recipe)
    items = read(data, fold=fold, needs=recipe.needs, skip_bad=skip_bad, classes=classes)
    check_classes(items, recipe.needs, classes)
    if skip_bad:
        items = warm(items, skip_bad=True)
    validation = _validation(data, items, recipe.needs, classes, skip_bad) if fold == "train" else []
    if catalog.system(system).verb == "recognize":
        items, validation = locating.located(items, device), locating.located(validation, device)
    if fold == "train":
        items, validation = recipe.split(items, validation)
    learnt = Counter(_set_of(item, data) for item in items)
    card = {
        "preset": preset,
        "paper": catalog.system(system).paper,
        "trained_on": [{"set": name, "fold": fold, "count": count, "licence": licence} for name, count in learnt.items()],
        "commercial_use": commercial_use,
        "validation_set": " + ".join(dict.fromkeys(_set_of(item, data) for item in validation)),
        "validation_fold": "dev",
    }
    written = train(
        recipe,
        items,
        out,
        system=system,
        validation=validation,
        lent=lent,
        pictures=pictures,
        seed=seed,
        device=device,
        precision=precision,
        resume=resume,
        start=start,
        blend=blend,
        workers=workers,
        threads=threads,
        processes=processes,
        nodes=nodes,
        command=shlex.join(["visagist", *sys.argv[1:]]),
        card=card,
        quiet=quiet,
    )
    if os.environ.get("LOCAL_RANK", "0") == os.environ.get("NODE_RANK", "0") == "0":  # of several processes one says so
        print(os.fspath(written), flush=True)
    return 0


def _borrowed(recipe: Any, device: str, *, needed: bool = True) -> tuple[dict[str, Any], dict[str, Photo]]:
    """The networks that the recipe borrows and the pictures that it looks at, by the fields that name them. Of what is not `needed`
    only what is there. UsageError where no picture is named."""
    from visagist import catalog
    from visagist.photo.photo import Photo

    missing = [name for name in recipe.looks_at if not getattr(recipe, name)]
    if needed and missing:
        what = f"no picture is named by --{missing[0].replace('_', '-')}"
        raise UsageError(what, code="usage", hint="give it a picture file, or the name of a painting that came with visagist")
    lent, pictures = {}, {}
    for name in (*recipe.borrows, *recipe.looks_at):
        if value := getattr(recipe, name):
            try:
                if name in recipe.borrows:
                    lent[name] = catalog.load(value, device).nets
                else:
                    pictures[name] = Photo.open(catalog.painting(value) or value)
            except VisagistError:
                if needed:
                    raise
    return lent, pictures


def _classes(system: str, recipe: Any) -> tuple[str, ...]:
    """The labels of boxes that a detector knows; () for other systems, which do not ask."""
    from visagist import catalog

    return tuple(getattr(recipe, "names", ("face",))) if catalog.system(system).verb == "detect" else ()


def _validation(
    data: Sequence[str], items: Sequence[Any], needs: Sequence[str], classes: Sequence[str], skip_bad: bool
) -> list[Any]:
    """The dev rows of the same sets. Sets without folds give every row twice; what is learnt from is not measured on."""
    from visagist.training.data.pictures import warm
    from visagist.training.data.readers import read

    try:
        dev = read(data, fold="dev", needs=needs, skip_bad=skip_bad, classes=classes)
    except TrainingError as error:
        if error.code == "no-data":
            return []
        raise
    learnt = {item.name for item in items}
    dev = [item for item in dev if item.name not in learnt]
    return warm(dev, skip_bad=True) if skip_bad else dev


def _set_of(item: Any, data: Sequence[str]) -> str:
    """The set an item came from: as its reader says, else the folder that was named."""
    return str(item.facts.get("set") or os.path.basename(os.path.normpath(data[0])))


@_as_training()
def evaluate(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="One of `visagist models`.", show_default=False)],
    data: Data,
    weights: Annotated[str | None, typer.Option("--weights", metavar="RUN|FILE", help="Default: what came with visagist.")] = None,
    fold: Fold = "dev",
    finder: Annotated[
        str,
        typer.Option(
            "--finder", metavar="NAME|PATH|none", help="Detector for systems that need faces found; none: faces as labelled."
        ),
    ] = "yolo",
    curve: Annotated[
        str | None, typer.Option("--curve", metavar="FILE", help="For points: draw how many faces have at most which error.")
    ] = None,
    confusion: Annotated[
        str | None, typer.Option("--confusion", metavar="FILE", help="For classifiers: draw which class is taken for which.")
    ] = None,
    mistakes: Annotated[
        str | None, typer.Option("--mistakes", metavar="FILE", help="For classifiers: draw the most confident wrong answers.")
    ] = None,
    submission: Annotated[
        str | None,
        typer.Option(
            "--submission", metavar="FILE", help="For keypoint-cnn: write Kaggle's answer to test.csv and its lookup table."
        ),
    ] = None,
    skip_bad: SkipBad = False,
    threads: Threads = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option("--seed", help="For measures that draw random numbers.")] = 0,
    quiet: Quiet = False,
) -> int:
    """Measure a system on labelled data: one JSON object on stdout."""
    from visagist import api, catalog

    row = catalog.system(system)
    _check_picture(curve, row.verb, "landmarks", "an error curve")
    _check_picture(confusion, row.verb, "classify", "a confusion matrix")
    _check_picture(mistakes, row.verb, "classify", "a sheet of mistakes")
    if submission is not None:
        _check_new(submission)
    with redirect_stdout(sys.stderr):  # whatever a library prints, stdout holds the object and nothing else
        loaded = catalog.load(weights if weights is not None else row.name, device, verb=row.verb)
        if loaded.system.name != row.name:
            what = f"these weights are of {loaded.system.name}, not of {row.name}"
            raise UsageError(what, code="wrong-system", path=loaded.file)
        if submission is not None and not hasattr(loaded.recipe, "predict"):
            raise UsageError(f"{row.name} does not find the points that a submission has", code="no-submission")
        from visagist.training import evaluate as found
        from visagist.training.data.pictures import warm
        from visagist.training.data.readers import read

        _torch_settings(threads, seed)

        def find(photo: Photo) -> tuple[Face, ...]:
            faces = api.detect(photo, model=finder, device=device)
            return api.landmarks(photo, faces, device=device) if row.verb == "recognize" else faces

        rows = _submit(data, submission, loaded, skip_bad, quiet) if submission is not None else None
        try:
            classes = _classes(system, loaded.recipe)
            items = read(data, fold=fold, needs=loaded.recipe.needs, skip_bad=skip_bad, classes=classes)
            items = warm(items, skip_bad=True) if skip_bad else items
        except TrainingError as error:
            if rows is None or error.code != "no-data":
                raise
            items = []  # a submission needs no labels
        found.tell_learnt(loaded.card, items, [_set_of(item, data) for item in items])
        with waiting(f"measuring {system} on {len(items)} items", quiet):
            finds = None if row.verb == "detect" or finder == "none" else find
            lent, pictures = _borrowed(loaded.recipe, device, needed=False)
            given: dict[str, Any] = {"finder": finds, "lent": lent, "pictures": pictures}
            figures = found.measured(loaded.recipe, loaded.nets, items, **given) if items else {"rmse_96": math.nan, "n": 0}
            shown: dict[str, Any] = dict(found.printed(figures if rows is None else {**figures, "n_submission": rows}))
            if row.verb == "classify":
                shown["per_class"] = found.per_class(loaded.recipe, items, figures)
        drawings = (
            (curve, lambda: found.error_curve({system: figures})),
            (confusion, lambda: found.confusion_picture(loaded.recipe, items, figures)),
            (mistakes, lambda: found.worst_mistakes(loaded.recipe, items, figures)),
        )
        for path, draw in drawings:
            if path is not None:
                from visagist.photo.photo import Photo

                Photo.of(draw()).save(path)
    print(as_json(shown), flush=True)
    return 0


def _check_picture(path: str | None, verb: str, wanted: str, what: str) -> None:
    """What would keep a picture from being drawn is said before anything is measured."""
    from visagist.photo.encoding import FORMATS

    if path is None:
        return
    if verb != wanted:
        raise UsageError(f"only systems for {wanted} have {what}", code="no-curve" if wanted == "landmarks" else "no-picture")
    if os.path.splitext(path)[1].lower() not in FORMATS:
        raise UsageError("a picture is written as .jpg, .png, .webp or .tif", code="usage", path=path)
    _check_new(path)


def _check_new(path: str) -> None:
    """A measurement replaces no file."""
    if os.path.lexists(path):
        raise UsageError("exists already", code="output-clash", path=path, hint="choose another name or remove it")


def _submit(data: Sequence[str], out: str, loaded: Any, skip_bad: bool, quiet: bool) -> int:
    """Write a submission; returns how many rows it has."""
    from visagist.training.data import kaggle

    with waiting("finding points in the test pictures", quiet):
        return kaggle.submit(data, out, lambda pictures: loaded.recipe.predict(loaded.nets, pictures), skip_bad=skip_bad)


def _torch_settings(threads: int | None, seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Turns a missing package of an extra into a sentence that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("visagist"):
            raise
        hint = f"pip install 'visagist[{name}]'"
        raise UsageError(f"this needs the package {error.name}", code="missing-extra", hint=hint) from None
