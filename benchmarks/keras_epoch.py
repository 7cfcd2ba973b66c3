"""The time of a pass over CIFAR-10: our convolutional network against the same one in Keras, in turns on one machine.

    python benchmarks/keras_epoch.py --keras PYTHON [--rounds 5] [--steps 60] [--threads 2]

PYTHON is an interpreter with TensorFlow in it (an environment of its own: it is no dependency of ours). Both train the network of
the text with Adam on batches of 128 random pictures of 32 x 32, the layers, norms and dropout alike: Keras as the text has it
(`fit`, float32), ours as `visagist train cifar-cnn --batch 128` computes it (bfloat16 where the processor has it). Each round runs
both, one after the other; printed are medians and the ratio, in seconds for 50,000 pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

BATCH = 128
PASS = 50_000 / BATCH  # steps

CHILD = """
import sys, time, os
threads = int(sys.argv[1]); steps = int(sys.argv[2])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(threads)
from tensorflow.keras import layers, models, optimizers
def block(x, filters, stride):
    x = layers.Conv2D(filters, 3, strides=stride, padding="same")(x)
    return layers.LeakyReLU(0.3)(layers.BatchNormalization()(x))
given = layers.Input((32, 32, 3))
x = given
for filters, stride in ((32, 1), (32, 2), (64, 1), (64, 2)):
    x = block(x, filters, stride)
x = layers.Dense(128)(layers.Flatten()(x))
x = layers.Dropout(0.5)(layers.LeakyReLU(0.3)(layers.BatchNormalization()(x)))
net = models.Model(given, layers.Dense(10, activation="softmax")(x))
assert net.count_params() == 592554
net.compile(optimizer=optimizers.Adam(5e-4), loss="categorical_crossentropy", metrics=["accuracy"])
rng = np.random.default_rng(0)
pictures = rng.random((128 * steps, 32, 32, 3), dtype=np.float32)
labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, len(pictures))]
net.fit(pictures[:1280], labels[:1280], batch_size=128, verbose=0)
print(tf.__version__, flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    net.fit(pictures, labels, batch_size=128, epochs=1, shuffle=True, verbose=0)
    print((time.perf_counter() - start) / steps, flush=True)
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keras", required=True, metavar="PYTHON")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--threads", type=int, default=2)
    o = options.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    import measuring  # noqa: F401  sets the process up as every command does
    import numpy as np
    import torch

    from visagist import catalog
    from visagist.recipe import Run
    from visagist.training.run import choose_precision

    torch.set_num_threads(o.threads)
    recipe = catalog.recipe("cifar-cnn", batch=BATCH)
    stage = dataclasses.replace(recipe.stages()[0], steps=o.steps)
    nets = {name: net.to(memory_format=torch.channels_last).train() for name, net in recipe.networks().items()}  # type: ignore[call-overload]
    device = torch.device("cpu")
    run = Run(nets, stage.optimizers(nets), stage, 0, device, choose_precision("auto", device))  # type: ignore[misc]
    pictures = torch.randint(0, 256, (BATCH * o.steps, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 10, (len(pictures),))

    def ours() -> float:
        start = time.perf_counter()
        for part in torch.randperm(len(pictures)).split(BATCH):
            scalars = stage.step(run, {"image": pictures[part], "label": labels[part]})  # type: ignore[misc]
            assert float(scalars["loss"]) > 0
        return (time.perf_counter() - start) / o.steps

    ours()
    child = subprocess.Popen(
        [o.keras, "-c", CHILD, str(o.threads), str(o.steps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    version = child.stdout.readline().strip()
    if not version:
        raise SystemExit(f"{o.keras} has no TensorFlow that works")
    seconds: dict[str, list[float]] = {"keras": [], "ours": []}
    for _ in range(o.rounds):
        child.stdin.write("go\n")
        child.stdin.flush()
        seconds["keras"].append(float(child.stdout.readline()) * PASS)
        seconds["ours"].append(ours() * PASS)
    child.stdin.close()
    child.wait()
    middle = {name: float(np.median(of)) for name, of in seconds.items()}
    found = {
        "tensorflow": version,
        "precision": run.precision,
        "threads": o.threads,
        **middle,
        "ratio": middle["keras"] / middle["ours"],
    }
    print(json.dumps({**found, "rounds": seconds}))


if __name__ == "__main__":
    main()
