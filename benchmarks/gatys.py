"""One evaluation of style transfer's loss and gradient, VGG-19's shapes at 512 x 384: the loop that everyone copies against ours.

    python benchmarks/gatys.py [--rounds 7] [--iterations 60] [--threads 2] [--compile]

The loop: the network in float32 as PyTorch's examples build it, losses by autograd through Gram matrices, in a process as Python
starts it ("bare") and in one with the settings of our commands ("settled"). Ours: `Objective` in bfloat16 where the processor has
it, float32 else. Every part runs in a process of its own, in turns; medians of the clock over all rounds, and of processor time
over threads, which other programs on the machine disturb less. Weights are random: their values do not change the time.

With --compile ours once more, the network between two wanted layers compiled by torch.compile, which needs g++; what the first
evaluation takes longer than the others is the time to compile.

Then both descend from the same photo with the same L-BFGS for as many iterations, and the last pictures are measured by the plain
loop's loss. Prints JSON: seconds, ratios, losses, the rates of a large matrix product and a large convolution in this run, and how
much of the higher one ours reaches (multiplications and additions of the convolutions and Gram matrices, forward and back to the
picture).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

SIZE = (384, 512)


def loaded(threads: int, settled: bool) -> tuple[Any, Any, Any]:
    """The network with random weights, the photo and the style [1, 3, H, W] in [-1, 1]."""
    if settled:
        from visagist.apps import process

        process.settle()
    import skimage.data
    import torch

    from visagist import catalog
    from visagist.photo.photo import Photo
    from visagist.stylize import canvas
    from visagist.stylize.features import VGG19

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = VGG19().requires_grad_(False)
    for part in net.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    painting = catalog.painting("starry-night")
    assert painting is not None
    pictures = [skimage.data.chelsea(), Photo.open(painting).pixels]
    return net, *(torch.from_numpy(canvas.resized(canvas.floated(p, SIZE), SIZE).transpose(2, 0, 1).copy())[None] for p in pictures)


def plain(net: Any, content: Any, style: Any, weights: Any, factors: Any) -> Callable[[Any], tuple[float, Any]]:
    """The loop that everyone copies: targets once, then a forward pass, a sum of losses, backward()."""
    import torch

    from visagist.stylize.features import VGG19

    layers, names = [], {}
    for name in net.upto(VGG19.style):  # one after the other as in torchvision's vgg19().features, ReLUs not in place
        for part in net.blocks[name]:
            layers.append(torch.nn.ReLU() if isinstance(part, torch.nn.ReLU) else part)
        names[len(layers) - 1] = name

    def features(x: Any) -> dict[str, Any]:
        found, h = {}, net.entering(x)
        for number, layer in enumerate(layers):
            h = layer(h)
            if names.get(number) in (*VGG19.style, *VGG19.content):
                found[names[number]] = h
        return found

    def gram(f: Any) -> Any:
        _, c, h, w = f.shape
        flat = f.view(c, h * w)
        return flat @ flat.t() / (h * w)

    with torch.no_grad():
        targets = {name: f.clone() for name, f in features(content).items()}
        grams = {name: gram(f) for name, f in features(style).items()}

    def closure(x: Any) -> tuple[float, Any]:
        x = x.detach().clone().requires_grad_()
        loss = 0.0
        for name, f in features(x).items():
            if name in VGG19.style:
                share = weights.ratio * VGG19.style[name] * factors[name]
                loss = loss + share * ((gram(f) - grams[name]) ** 2).sum() / (4 * f.shape[1] ** 2)
            if name in VGG19.content:
                loss = loss + VGG19.content[name] * factors["content"] * ((f - targets[name]) ** 2).sum() / 2
        loss.backward()
        return float(loss.detach()), x.grad

    return closure


def evaluations(part: str, threads: int) -> tuple[Any, Any, Callable[[Any], tuple[float, Any]]]:
    """The plain loop with the factors of our losses, the photo, and the evaluation of this part."""
    import torch

    from visagist.stylize.features import VGG19
    from visagist.stylize.objective import Objective, Weights
    from visagist.stylize.reader import Reader
    from visagist.weights import device

    net, content, style = loaded(threads, part != "bare")
    weights = Weights(VGG19.content, VGG19.style, 100.0)
    cpu = torch.device("cpu")
    exact = Objective(Reader(net, VGG19.style | VGG19.content, torch.float32, cpu), content, [(style, 1.0)], weights, balance=True)
    loop = plain(net, content, style, weights, exact.factors)
    if part in ("bare", "settled"):
        return loop, content, loop
    dtype = torch.bfloat16 if device.quick_bfloat16(cpu) else torch.float32
    quick = Reader(net, VGG19.style | VGG19.content, dtype, cpu)
    objective = Objective(quick, content, [(style, 1.0)], weights, balance=True)
    if part == "compiled":  # once the targets are read, which happens without gradients and would be compiled separately
        quick.chain = compiled(quick.chain)
    return loop, content, objective


def compiled(chain: list[tuple[Any, str]]) -> list[tuple[Any, str]]:
    """The modules of a reader, those from one wanted layer to the next compiled as one."""
    import torch

    pieces, parts = [], []
    for part, name in chain:
        parts.append(part)
        if name:
            pieces.append((torch.compile(torch.nn.Sequential(*parts), dynamic=False), name))
            parts = []
    return pieces


def one_part(part: str, threads: int, repeats: int, iterations: int) -> dict[str, Any]:
    """Run in a process of its own: seconds of some evaluations, or the loss after a descent."""
    loop, content, evaluate = evaluations(part, threads)
    x = content.clone()
    if iterations:
        from visagist.stylize.descent import projected

        count = 0

        def counted(y: Any) -> tuple[float, Any]:
            nonlocal count
            count += 1
            return evaluate(y)

        start = time.perf_counter()
        found, _ = projected(counted, x, lambda *_: False, low=-1, high=1, iterations=iterations)
        return {
            "first": loop(x)[0], "last": loop(found)[0], "evaluations": count, "seconds": time.perf_counter() - start,
        }  # fmt: skip
    start = time.perf_counter()
    _, gradient = evaluate(x)
    first = time.perf_counter() - start
    clock, processor = [], []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        evaluate(x)
        clock.append(time.perf_counter() - started[0])
        processor.append((time.process_time() - started[1]) / threads)
    more = {}
    if part in ("ours", "compiled"):
        wanted = loop(x)[1].flatten().double()
        cosine = float(wanted @ gradient.flatten().double() / (wanted.norm() * gradient.double().norm()))
        more = {"first": [first], "cosine": [cosine]}
    return {"clock": clock, "processor": processor, **more}


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of square matrix products and of 3x3 convolutions of 256 channels, by side; the best of some."""
    from visagist.apps import process

    process.settle()
    import torch

    torch.set_num_threads(threads)
    rates: dict[str, float] = {}
    for kind, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        works: dict[str, tuple[Callable[[], object], float]] = {}
        for side in (2048, 4096):
            a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
            works[f"product_{side}"] = (lambda a=a, b=b: a @ b), 2.0 * side**3
        k = torch.randn(256, 256, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
        for height, width in ((96, 128), (192, 256)):
            x = torch.randn(1, 256, height, width).to(dtype).contiguous(memory_format=torch.channels_last)
            works[f"convolution_{height}"] = (lambda x=x, k=k: torch.conv2d(x, k, padding=1)), 2.0 * k.numel() * height * width
        for name, (work, flops) in works.items():
            work()
            best = 1e9
            for _ in range(6):
                start = time.process_time()
                work()
                best = min(best, (time.process_time() - start) / threads)
            rates[f"{name}_{kind}"] = round(flops / best / 1e9, 1)
    return rates


def operations() -> float:
    """Multiplications and additions of one evaluation: convolutions twice (the first layer's way back too), Gram matrices twice."""
    import torch

    from visagist.stylize.features import VGG19

    with torch.device("meta"):
        net = VGG19()
        found = net(torch.zeros(1, 3, *SIZE), net.upto(VGG19.style))
    total = 0.0
    for name, f in found.items():
        (conv,) = [part for part in net.blocks[name].modules() if isinstance(part, torch.nn.Conv2d)]
        total += 2 * 2.0 * conv.weight.numel() * f[0, 0].numel()
        total += 2 * 2.0 * f.shape[1] ** 2 * f[0, 0].numel() if name in VGG19.style else 0.0
    return total


def child(part: str, threads: int, repeats: int, iterations: int) -> dict[str, Any]:
    """`one_part` in a process of its own; waiting threads sleep, so that processor time is work."""
    command = [
        sys.executable,
        __file__,
        "--part",
        part,
        "--threads",
        str(threads),
        "--rounds",
        str(repeats),
        "--iterations",
        str(iterations),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    if done.returncode:
        raise SystemExit(done.stderr[-1000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="evaluations of each part, in three turns")
    parser.add_argument("--iterations", type=int, default=60, help="of the descent; 0: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also ours compiled by torch.compile")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part == "peaks":
        print(json.dumps(peaks(asked.threads)))
        return
    if asked.part:
        print(json.dumps(one_part(asked.part, asked.threads, asked.rounds, asked.iterations)))
        return
    parts = ("bare", "settled", "ours", "compiled") if asked.compile else ("bare", "settled", "ours")
    if asked.compile and not shutil.which(os.environ.get("CXX", "g++")):
        raise SystemExit("--compile: torch.compile needs a C++ compiler, and there is no g++")
    seconds: dict[str, dict[str, list[float]]] = {part: {} for part in parts}
    for turn in range(3):
        for part in parts:
            if part == "compiled" and turn:  # once: what was compiled is kept on the disk, and would be found again
                continue
            rounds = asked.rounds if part == "compiled" else max(1, asked.rounds // 3)
            for kind, values in child(part, asked.threads, rounds, 0).items():
                seconds[part][kind] = seconds[part].get(kind, []) + values
    middle = {part: {kind: statistics.median(values) for kind, values in of.items()} for part, of in seconds.items()}
    rates, flops = child("peaks", asked.threads, 1, 0), operations()
    ours = middle["ours"]["processor"]
    said: dict[str, Any] = {
        "size": list(SIZE),
        "threads": asked.threads,
        "load_average": os.getloadavg()[0],
        "seconds": {part: {kind: round(of[kind], 4) for kind in ("clock", "processor")} for part, of in middle.items()},
        "times_as_fast_as": {p: {k: round(middle[p][k] / middle["ours"][k], 2) for k in middle[p]} for p in parts[:2]},
        "cosine_of_gradients": round(middle["ours"]["cosine"], 5),
        "gflop": round(flops / 1e9, 1),
        "gflop_per_second": round(flops / ours / 1e9, 1),
        "rates": rates,
        "of_the_peak": round(flops / ours / 1e9 / max(rates.values()), 3),
    }
    if asked.compile:
        quick = middle["compiled"]
        said["compiled"] = {
            "times_as_fast_as_ours": {k: round(middle["ours"][k] / quick[k], 2) for k in ("clock", "processor")},
            "seconds_to_compile": round(quick["first"] - quick["clock"], 1),
            "of_the_peak": round(flops / quick["processor"] / 1e9 / max(rates.values()), 3),
            "cosine_of_gradients": round(quick["cosine"], 5),
        }
    if asked.iterations:
        ends = {part: child(part, asked.threads, 1, asked.iterations) for part in ("settled", "ours")}
        said["descent"] = {"iterations": asked.iterations, **{("plain" if p == "settled" else p): e for p, e in ends.items()}}
        said["last_loss_of_ours_over_plain"] = round(ends["ours"]["last"] / ends["settled"]["last"], 4)
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
