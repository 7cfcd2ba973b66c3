"""One evaluation of style transfer's loss and gradient, VGG-19's shapes at 512 x 384: the loop that everyone copies against ours.

    python benchmarks/gatys.py [--rounds 7] [--iterations 60] [--threads 2]

The loop: the network in float32 as PyTorch's examples build it, losses by autograd through Gram matrices, in a process as Python
starts it ("bare") and in one with the settings of our commands ("settled"). Ours: `Objective` in bfloat16 where the processor has
it, float32 else. Every part runs in a process of its own, in turns; medians of the clock over all rounds, and of processor time
over threads, which other programs on the machine disturb less. Weights are random: their values do not change the time.

Then both descend from the same photo with the same L-BFGS for as many iterations, and the last pictures are measured by the plain
loop's loss. Prints JSON: seconds, ratios, losses, the rate of the machine's matrix products in this run, and how much of it ours
reaches (multiplications and additions of the convolutions and Gram matrices, forward and back to the picture).
"""

from __future__ import annotations

import argparse
import json
import os
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
    if part != "ours":
        return loop, content, loop
    dtype = torch.bfloat16 if device.quick_bfloat16(cpu) else torch.float32
    quick = Reader(net, VGG19.style | VGG19.content, dtype, cpu)
    return loop, content, Objective(quick, content, [(style, 1.0)], weights, balance=True)


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
    evaluate(x)
    clock, processor = [], []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        evaluate(x)
        clock.append(time.perf_counter() - started[0])
        processor.append((time.process_time() - started[1]) / threads)
    return {"clock": clock, "processor": processor}


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of matrix products 2048 x 2048 and of a 3x3 convolution of 256 channels, best of some."""
    import torch

    torch.set_num_threads(threads)
    rates: dict[str, float] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        x = torch.randn(1, 256, 96, 128).to(dtype).contiguous(memory_format=torch.channels_last)
        k = torch.randn(256, 256, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
        for what, work, flops in (
            ("product", lambda a=a, b=b: a @ b, 2 * 2048**3),
            ("convolution", lambda x=x, k=k: torch.conv2d(x, k, padding=1), 2 * 256 * 256 * 9 * 96 * 128),
        ):
            best = 1e9
            for _ in range(8):
                start = time.process_time()
                work()
                best = min(best, (time.process_time() - start) / threads)
            rates[f"{what}_{name}"] = round(flops / best / 1e9, 1)
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
    parser.add_argument("--part", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(one_part(asked.part, asked.threads, asked.rounds, asked.iterations)))
        return
    parts = ("bare", "settled", "ours")
    seconds: dict[str, dict[str, list[float]]] = {part: {"clock": [], "processor": []} for part in parts}
    for _ in range(3):
        for part in parts:
            for kind, values in child(part, asked.threads, max(1, asked.rounds // 3), 0).items():
                seconds[part][kind] += values
    middle = {part: {kind: statistics.median(values) for kind, values in of.items()} for part, of in seconds.items()}
    rates, flops = peaks(asked.threads), operations()
    ours = middle["ours"]["processor"]
    said: dict[str, Any] = {
        "size": list(SIZE),
        "threads": asked.threads,
        "load_average": os.getloadavg()[0],
        "seconds": {part: {kind: round(v, 3) for kind, v in of.items()} for part, of in middle.items()},
        "times_as_fast_as": {p: {k: round(middle[p][k] / middle["ours"][k], 2) for k in middle[p]} for p in parts[:2]},
        "gflop": round(flops / 1e9, 1),
        "gflop_per_second": round(flops / ours / 1e9, 1),
        "rates": rates,
        "of_the_matrix_peak": round(flops / ours / 1e9 / max(rates["product_bfloat16"], rates["product_float32"]), 3),
        "of_the_convolution_peak": round(flops / ours / 1e9 / max(rates["convolution_bfloat16"], rates["convolution_float32"]), 3),
    }
    if asked.iterations:
        ends = {part: child(part, asked.threads, 1, asked.iterations) for part in ("settled", "ours")}
        said["descent"] = {"iterations": asked.iterations, **{("plain" if p == "settled" else p): e for p, e in ends.items()}}
        said["last_loss_of_ours_over_plain"] = round(ends["ours"]["last"] / ends["settled"]["last"], 4)
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
