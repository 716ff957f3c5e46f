"""The paper's recipe in Keras 3: seconds an epoch of both stages, as one line of JSON.

    PYTHON=/path/to/venv/bin/python
    $PYTHON benchmarks/peers/keras_recipe.py --photos LIST.csv [--network legacy_xception] [--backend jax]

Keras needs an environment of its own, with Python 3.11 or newer:

    python -m venv /path/to/venv
    /path/to/venv/bin/pip install keras tensorflow-cpu             # and 'jax[cpu]' or torch for --backend

LIST.csv has a header, then a row a photo: path (from the list's folder, or absolute) and L columns of 0 and 1.

As the Keras guides have it: tf.data decodes and augments in parallel and ahead, keras.applications gives the network
(random weights, speed doesn't depend on them), `compile` and `fit`. Stage 1 trains the last layer alone, Adam 1e-4;
stage 2 also the last Inception-ResNet-C block and the last convolution (Xception: block 14), Adam 1e-5. Layers that
aren't trainable run their batch-norms in inference mode, which is what `trainable = False` means in Keras. Each stage
has `--warm` epochs that hold building and compiling, then `--epochs` timed ones. Faster than the guides where it's
free of charge: the fast inverse DCT; flip, rotation and translation as one affine map of TensorFlow instead of three
layers (half of the time); and TensorFlow without XLA, which Keras would take for itself. On two cores with AVX-512 XLA
took 1.3 times as long, with Xception ten times; jax 2 times, torch 3 times.

On standard error: what was trained. It fails where a locked value changed or an unlocked one didn't.
"""

import argparse
import csv
import json
import math
import os
import platform
import resource
import sys
import time
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Keras's name, the last layer that stays locked, and how many parameters follow: as timm's, but these
# Inception-ResNets have batch-norms without scales.
NETWORKS = {
    "inception_resnet_v2": ("InceptionResNetV2", "block8_9_ac", 5_233_376 - 2_400),
    "legacy_xception": ("Xception", "add_11", 4_748_800),
}
SIZE, FLIP, TRANSLATE, ROTATE, DROPOUT = 299, 0.5, 0.1, 15, 0.5
STAGES = {"stage1": (False, 1e-4), "stage2": (True, 1e-5)}  # whether the last part is unlocked; Adam's learning rate


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="list of photos: path, then 0/1 columns.")
    parser.add_argument("--network", choices=NETWORKS, default="inception_resnet_v2", help="timm's name for it.")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--warm", type=int, default=1, help="epochs of each stage before the timed ones.")
    parser.add_argument("--epochs", type=int, default=1, help="timed epochs of each stage.")
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch"], default="tensorflow")
    parser.add_argument("--jit", choices=["auto", "on", "off"], help="compile's jit_compile; the fastest by default.")
    parser.add_argument("--grid", type=Path, help="write a PNG of sixteen augmented photos here and end.")
    given = parser.parse_args()
    given.jit = given.jit or ("auto" if given.backend == "jax" else "off")
    return given


given = arguments()
os.environ["KERAS_BACKEND"] = given.backend  # Keras reads it when it is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def read_list(path: Path) -> tuple[list[str], np.ndarray]:
    """Paths of the photos; targets (n, labels) float32."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    targets = np.array([row[1:] for row in rows], np.float32)
    if not rows or not set(np.unique(targets)) <= {0, 1}:
        raise SystemExit(f"Expected {path} to hold a header and rows of path and 0/1, but got something else.")
    return [str(path.parent / row[0]) for row in rows], targets


def load(path: Any, targets: Any) -> Any:
    """Decode and stretch one photo: (299, 299, 3) float32 in [0, 255]."""
    photo = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_FAST")
    return tf.image.resize(photo, (SIZE, SIZE)), targets


def augment(photos: Any, targets: Any) -> Any:
    """Flip, turn and shift each photo of a batch by its own random numbers; what lies beyond the border is mirrored."""
    n = tf.shape(photos)[0]
    flip = tf.where(tf.random.uniform([n]) < FLIP, -1.0, 1.0)
    angle = tf.random.uniform([n], -1, 1) * math.radians(ROTATE)
    cos, sin, middle = tf.cos(angle), tf.sin(angle), (SIZE - 1) / 2
    right, down = (middle + SIZE * TRANSLATE * tf.random.uniform([n], -1, 1) for _ in range(2))
    first = [flip * cos, -flip * sin, middle - flip * (cos * right - sin * down)]
    second = [sin, cos, middle - (sin * right + cos * down)]
    way_back = tf.stack([*first, *second, tf.zeros([n]), tf.zeros([n])], axis=1)  # from the result to the photo
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=photos,
        transforms=way_back,
        output_shape=[SIZE, SIZE],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    return moved / 127.5 - 1, targets  # as both networks' preprocess_input


def pipeline(paths: list[str], targets: np.ndarray, batch: int) -> Any:
    data = tf.data.Dataset.from_tensor_slices((paths, targets)).shuffle(len(paths))
    data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False).batch(batch)
    return data.map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False).prefetch(tf.data.AUTOTUNE)


def settle(model: Any, photos: np.ndarray) -> None:
    """Give each batch-norm the statistics of these photos, so that activations are as large as in trained networks."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momentums = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(photos, training=True)
    for norm, momentum in zip(norms, momentums, strict=True):
        norm.momentum = momentum


def build(network: str, photos: np.ndarray, labels: int) -> tuple[Any, list[Any]]:
    """The network and those of its layers that stage 2 unlocks."""
    name, last_locked, _ = NETWORKS[network]
    make = getattr(keras.applications, name)
    base = make(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")
    dropped = keras.layers.Dropout(DROPOUT)(base.output)
    model = keras.Model(base.input, keras.layers.Dense(labels, activation="sigmoid")(dropped))
    settle(model, photos)
    names = [layer.name for layer in base.layers]
    for layer in base.layers:
        layer.trainable = False
    return model, base.layers[names.index(last_locked) + 1 :]


def marks(variables: list[Any]) -> list[int]:
    """A checksum of each variable."""
    return [zlib.crc32(np.ascontiguousarray(keras.ops.convert_to_numpy(variable))) for variable in variables]


def check(stage: str, model: Any, before: list[int]) -> None:
    """End unless all that trains has changed and nothing else has; batch-norms' statistics train with their layer."""
    trains = {id(variable): layer.trainable for layer in model.layers for variable in layer.variables}
    n = {True: 0, False: 0}
    for variable, old, new in zip(model.variables, before, marks(model.variables), strict=True):
        if "seed_generator" in variable.path:  # the dropout's
            continue
        n[trains[id(variable)]] += 1
        if (old != new) != trains[id(variable)]:
            state = "locked but changed" if old != new else "unlocked but stayed as it was"
            raise SystemExit(f"{stage}: {variable.path} is {state}.")
    print(f"{stage}: {n[True]} unlocked tensors changed, {n[False]} locked ones didn't", file=sys.stderr)


def check_counts(trainable: dict[str, int], want: int) -> None:
    got = trainable["stage2"] - trainable["stage1"]
    if got != want:
        raise SystemExit(f"Expected {want:,} parameters to be unlocked by stage 2, but got {got:,}.")


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Clock(keras.callbacks.Callback):
    """Wall and CPU seconds when each epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.wall, self.cpu, self.loss = [time.perf_counter()], [cpu_seconds()], []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(cpu_seconds())
        self.loss.append(round(float(logs["loss"]), 4))


def main() -> None:
    keras.utils.set_random_seed(0)
    paths, targets = read_list(given.photos)
    data = pipeline(paths, targets, given.batch)
    photos = next(iter(data))[0].numpy()[:16]
    if given.grid:
        rows = np.concatenate([np.concatenate(photos[k : k + 4], axis=1) for k in range(0, len(photos) // 4 * 4, 4)])
        given.grid.write_bytes(tf.io.encode_png(tf.cast((rows + 1) * 127.5, tf.uint8)).numpy())
        return
    model, last = build(given.network, photos[:2], targets.shape[1])
    facts: dict[str, Any] = {
        "tool": "keras",
        "network": given.network,
        "backend": given.backend,
        "jit": given.jit,
        "photos": len(paths),
        "batch": min(given.batch, len(paths)),
        "epochs": given.epochs,
        "trainable": {},
        "cpu_s": {},
        "loss": {},
    }
    for stage, (unlocked, rate) in STAGES.items():
        clock = Clock()
        for layer in last:
            layer.trainable = unlocked
        before = marks(model.variables)
        clock.wall, clock.cpu = [time.perf_counter()], [cpu_seconds()]
        jit = {"auto": "auto", "on": True, "off": False}[given.jit]
        model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(), jit_compile=jit)
        model.fit(data, epochs=given.warm + given.epochs, verbose=0, shuffle=False, callbacks=[clock])
        check(stage, model, before)
        facts[f"{stage}_warmup_s"] = round(clock.wall[given.warm] - clock.wall[0], 2)
        facts[f"{stage}_epoch_s"] = round((clock.wall[-1] - clock.wall[given.warm]) / given.epochs, 3)
        facts["cpu_s"][stage] = round((clock.cpu[-1] - clock.cpu[given.warm]) / given.epochs, 3)
        facts["loss"][stage] = clock.loss
        facts["trainable"][stage] = int(sum(np.prod(variable.shape) for variable in model.trainable_variables))
    check_counts(facts["trainable"], NETWORKS[given.network][2])
    facts["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    packages = {"keras", "tensorflow-cpu", given.backend if given.backend != "tensorflow" else "keras"}
    facts["versions"] = {"python": platform.python_version()} | {name: version(name) for name in sorted(packages)}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
