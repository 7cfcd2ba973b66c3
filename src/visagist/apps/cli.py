"""The command `visagist`. What the options mean and the exit codes are a contract that other programs rely on.

    0 done    1 some photos failed    2 wrong usage    3 all failed    4 training stopped    130 interrupted    70 our own mistake

Nothing heavy is imported here: every help answers at once, without torch. The work is in `verbs` (photos), `learning` (train,
evaluate), `doctor` (doctor, models) and `demo`.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer

from visagist.apps import augmenting, learning, people, process, recognizing, turning
from visagist.apps.commands import App, Group
from visagist.apps.options import (
    MAX_PIXELS,
    Colour,
    Device,
    DeviceOption,
    FaceOption,
    Finish,
    Init,
    InPlace,
    Json,
    MaxPixels,
    OutCopy,
    OutResult,
    Overwrite,
    Photos,
    Preset,
    Quiet,
    Seed,
    colour_code,
    finite,
    numbers,
)
from visagist.apps.report import complain, printable
from visagist.errors import UsageError, VisagistError

WrongCommandLine: type[Any] = typer.BadParameter.__mro__[1]  # what the parser raises; its home differs between versions of typer


class Front(Group):
    """The top of the command line: turns whatever happens below into one line and the documented exit code."""

    def main(self, *args: Any, **more: Any) -> Any:
        alone = more.pop("standalone_mode", True)
        code = guarded(lambda: Group.main(self, *args, **{**more, "standalone_mode": False}))
        if alone:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        return guarded(lambda: Group.invoke(self, ctx))  # here, because typer has its own idea of Ctrl-C and broken pipes


def guarded(run: Callable[[], Any]) -> int:
    """What a command returns, or the exit code of what it raised, told on stderr."""
    try:
        code = run()
    except typer.Exit:  # --help
        raise
    except WrongCommandLine as error:
        context = error.ctx
        about = context.command_path if context is not None else "visagist"
        if error.format_message():  # empty where the help was shown instead
            print(f"{about}: [usage] {printable(error.format_message().rstrip('.'))}; see '{about} --help'", file=sys.stderr)
        return UsageError.exit_code
    except VisagistError as error:
        complain(error)
        return 3 if error.exit_code == 1 else error.exit_code  # a failed photo that ends the command was all there was
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has left: nobody wants the rest
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # so that the interpreter's last flush does not fail again
        return 130
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except Exception:
        traceback.print_exc()
        print(
            "[internal] this is a mistake in visagist, not in what you did; please report it with the lines above", file=sys.stderr
        )
        return 70
    return code if isinstance(code, int) else 0


app = App(
    name="visagist",
    cls=Front,
    epilog="Exit codes: 0 done, 1 some photos failed, 2 wrong usage, 3 all failed, 4 training stopped, 130 interrupted, 70 bug.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print("visagist", version("visagist"))
        raise typer.Exit


@app.callback()
def front(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """What papers do to photographs of faces, offline, with networks trained here."""


@app.command(epilog="A photo without faces is done, not failed.")
def detect(
    photos: Photos,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", help="yolo, or the weights file or run folder of a detector.")
    ] = "yolo",
    min_score: Annotated[
        float, typer.Option("--min-score", min=0, max=1, callback=finite, help="Lower finds more faces and more that are none.")
    ] = 0.5,
    out: OutCopy = None,
    json: Json = False,
    face: FaceOption = "all",
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """Find faces: boxes and scores."""
    from visagist.apps import verbs

    options = verbs.Options(photos, out, json, quiet, overwrite, max_pixels)
    return verbs.detect(options, model=model, min_score=min_score, face=face, device=device.value)


@app.command(epilog="A photo without faces is done, not failed.")
def landmarks(
    photos: Photos,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", help="landmarks68, keypoint-cnn, or the weights file or run folder.")
    ] = "landmarks68",
    out: OutCopy = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="A csv of the points as `train --data` reads it: pixel indices.")] = False,
    face: FaceOption = "all",
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """Find the points of faces: 68 and the pose of heads, or 15."""
    from visagist.apps import verbs

    options = verbs.Options(photos, out, json, quiet, overwrite, max_pixels, csv=csv)
    return verbs.landmarks(options, model=model, face=face, device=device.value)


@app.command(epilog="A photo without faces fails. Everything but the lips stays as it is.")
def makeup(
    photos: Photos,
    finish: Annotated[
        Finish,
        typer.Option("--finish", help="glazed (saturated red), glossy (light, shiny), tint (any colour).", show_default=False),
    ],
    shade: Annotated[
        str, typer.Option("--shade", metavar="'#RRGGBB'", callback=colour_code, help="The colour of a tint.")
    ] = "#b0123a",
    strength: Annotated[float, typer.Option("--strength", min=0, max=1, callback=finite, help="How much of it.")] = 1.0,
    out: OutResult = None,
    in_place: InPlace = False,
    json: Json = False,
    face: FaceOption = "all",
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """Paint lips."""
    from visagist.apps import verbs

    options = verbs.Options(photos, out, json, quiet, overwrite, max_pixels, in_place=in_place, edits=True)
    return verbs.makeup(options, finish=finish.value, shade=shade, strength=strength, face=face, device=device.value)


@app.command(
    epilog="Settings, losses and weights are written beside the picture (NAME.stylize.EXT.json). Ctrl-C keeps the best so far."
)
def stylize(
    photos: Photos,
    style: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--style",
            metavar="PAINTING|NAME",
            show_default=False,
            help="A picture (several: name the option again), or starry-night, the-scream, shipwreck, woman-with-hat. "
            "A file wins over a name.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            metavar="gatys|fast-style|PATH",
            help="gatys: any style, minutes; fast-style: a named painting, or weights of `train fast-style`, at once. "
            "Default: fast-style for a name, gatys for a picture.",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option("-l", "--size", min=0, help="Longer side of the result in pixels; 0: as large as the photo.")
    ] = 512,
    colour: Annotated[
        Colour, typer.Option("--colour", help="keep: the photo's colours; match: recolour the style like the photo first (gatys).")
    ] = Colour.style,
    init: Annotated[Init | None, typer.Option("-i", "--init", help="gatys: first picture. Default: content.")] = None,
    iterations: Annotated[
        int | None, typer.Option("-n", "--iterations", min=1, help="gatys: at the coarsest size; half as many at each finer one.")
    ] = None,
    ratio: Annotated[float | None, typer.Option("-r", "--ratio", min=0, help="gatys: more is more style. Default: 50000.")] = None,
    shares: Annotated[
        str | None,
        typer.Option("--shares", metavar="A,B", callback=numbers, help="gatys: how much of each style. Default: alike."),
    ] = None,
    guard: Annotated[
        float | None, typer.Option("--guard", min=0, max=1, help="How far faces keep the photo. Default: 0.6.")
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", show_default=False, help="gatys: any other setting, such as style_scale=1.2."),
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option("--preset", help="gatys: seed and demo do what the program style-transfer (2015) does.")
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            "--features", metavar="NAME|PATH", help="gatys: perceptual, or vgg19 and others made with `visagist convert`."
        ),
    ] = "perceptual",
    film: Annotated[
        str | None, typer.Option("--film", metavar="FILE", help="gatys: also a film of the run: .gif, .webp, .mp4 or .avi.")
    ] = None,
    out: OutResult = None,
    in_place: InPlace = False,
    json: Json = False,
    face: FaceOption = "all",
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    device: DeviceOption = Device.auto,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise of --init noise.")] = 0,
    quiet: Quiet = False,
) -> int:
    """Repaint photos in the manner of a painting."""
    from visagist.apps import repaint, verbs

    options = verbs.Options(photos, out, json, quiet, overwrite, max_pixels, in_place=in_place, edits=True)
    given = {"init": init, "iterations": iterations, "ratio": ratio, "shares": shares, "guard": guard, "preset": preset}
    settings = {**repaint.more_settings(set or []), "size": size, "colour": colour.value}
    settings |= {name: getattr(value, "value", value) for name, value in given.items() if value is not None}
    return verbs.stylize(
        options,
        styles=style or [],
        model=model,
        features=features,
        face=face,
        device=device.value,
        film=film,
        seed=seed,
        settings=settings,
    )


@app.command(epilog="A network names the classes it has learnt and nothing else: every photo gets some of them.")
def classify(
    photos: Photos,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", help="cifar-best, cifar-cnn, cifar-conv2, cifar-dense, or a run folder.")
    ] = "cifar-best",
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes.")] = 5,
    pad: Annotated[bool, typer.Option("--pad", help="Look at the whole photo. Default: the square in its middle.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also write NAME.classify.EXT (or -o) with what did not matter made dark.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            "-o", "--out", metavar="PATH", help="Also write copies with bars under them: a folder, or a file for one photo."
        ),
    ] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="One line per photo: classes and scores.")] = False,
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """Say what photos show: the likeliest classes with bars."""
    from visagist.apps import verbs

    options = verbs.Options(photos, out, json, quiet, overwrite, max_pixels, csv=csv, draws=explain)
    return verbs.classify(options, model=model, top=top, pad=pad, explain=explain, device=device.value)


app.command(epilog="A photo without faces fails. Far from the head nothing moves.")(turning.rotate)
app.command(epilog="A photo without faces fails. With --gallery an index is kept in its folder.")(recognizing.recognize)
app.command(epilog="A stopped run is finished by the same command. The new folder is a set for `train --data`.")(augmenting.augment)
app.add_typer(
    typer.Typer(cls=learning.Systems, no_args_is_help=True),
    name="train",
    help="Train a system: `visagist train SYSTEM --help` shows its settings.",
)
app.command(cls=learning.SeveralData)(learning.evaluate)
app.command(epilog="The folder is a set for `train` and `evaluate`: `--data FOLDER`.")(people.people)


@app.command(epilog="Nothing in these files is run, pickled ones included. Weights get a card beside them.")
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER", help="A .safetensors, .pth, .pt or .caffemodel; or CIFAR's pickled files.", show_default=False
        ),
    ],
    network: Annotated[
        str,
        typer.Option("--network", metavar="NAME", help="Of weights: vgg19, vgg16, googlenet, caffenet or squeezenet1_1."),
    ] = "",
    convention: Annotated[
        str, typer.Option("--convention", metavar="NAME", help="torchvision (RGB 0..1) or caffe (BGR 0..255): how it was trained.")
    ] = "",
    out: Annotated[
        str | None, typer.Option("-o", "--out", metavar="PATH", help="Default: NETWORK.safetensors here; FOLDER-binary.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Terms of the weights, for the card.")] = "not stated",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> int:
    """Turn weights of other programs into a file for `stylize --features`, and CIFAR's pickled files into binary ones."""
    from visagist.apps import convert as office

    return office.convert(source, network=network, convention=convention, out=out, licence=licence, overwrite=overwrite)


@app.command(epilog="Exit code 2 if weights are damaged, 3 if the photo cannot be read.")
def doctor(
    photo: Annotated[str | None, typer.Argument(metavar="[PHOTO]", help="Also look at this photo.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> int:
    """Report versions, processor and weights; of a PHOTO its format, profile and how it was made."""
    from visagist.apps import doctor as office

    return office.doctor(photo, json=json, max_pixels=max_pixels)


@app.command()
def models(
    json: Annotated[bool, typer.Option("--json", help="One JSON object per system and line.")] = False,
    summary: Annotated[
        str | None, typer.Option("--summary", metavar="SYSTEM", help="Instead: the layers of a classifier, as Keras prints them.")
    ] = None,
) -> int:
    """List the systems: bundled weights, licence, measured figures."""
    from visagist.apps import doctor as office

    if summary is not None:
        return office.summary(summary)
    return office.models(json=json)


@app.command()
def demo(
    out: Annotated[str, typer.Option("-o", "--out", metavar="FILE", help="The sheet.")] = "visagist-demo.png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the sheet if it exists.")] = False,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """Paint a portrait in the public domain with every finish and write a before/after sheet."""
    from visagist.apps import demo as show

    return show.demo(out, overwrite=overwrite, device=device.value, quiet=quiet)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code. Settings of the process are made here and nowhere else."""
    process.settle()
    process.stop_politely()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # meant for programmers; failures are told in a line of ours
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not stop the batch
    return cast(int, typer.main.get_command(app).main(arguments, prog_name="visagist", standalone_mode=False))
