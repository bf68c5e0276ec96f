"""Whole classifiers as Keras 2 saves them: a backbone and the dense layers of whoever fine-tuned it.

test/golden/fixtures/files/heads/, gzipped; heads.json holds what they compute. Numbers repeat every 61 elements, so that
the files are small.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras as keras_package
import numpy as np
import tensorflow as tf

from generator import input_batch, row, tensor_of
from store import FIXTURES, b64, write_json

keras = tf.keras
FOLDER = FIXTURES / "files" / "heads"
CLASSES = 5
ROLES = {
    "kernel": "kernel",
    "depthwise_kernel": "depthwise",
    "bias": "bias",
    "gamma": "gamma_relu6",
    "beta": "beta_relu6",
    "moving_mean": "mean",
    "moving_variance": "variance",
}
PERIOD = 61


def layers_of(model):
    for layer in model.layers:
        yield from layers_of(layer) if hasattr(layer, "layers") else [layer]


def fill(model) -> None:
    """Every number from its layer's place and its own name, since Keras counts the names through the program."""
    for i, layer in enumerate(layers_of(model)):
        values = []
        for weight in layer.weights:
            leaf = weight.name.rsplit("/", 1)[1].removesuffix(":0")
            shape = [int(n) for n in weight.shape]
            whole = tensor_of(row(f"{i}/{leaf}", shape, ROLES[leaf])).reshape(-1)
            values.append(np.resize(whole[:PERIOD], whole.size).reshape(shape))
        layer.set_weights(values)


def backbone(size: int):
    return keras.applications.MobileNet(alpha=0.25, include_top=False, input_shape=(size, size, 3), weights=None)


def notes(size: int = 64):
    """As the notes' training script has it: a Sequential around the backbone."""
    return keras.Sequential(
        [
            backbone(size),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(rate=0.5),
            keras.layers.Dense(12, activation="relu"),
            keras.layers.Dropout(rate=0.5),
            keras.layers.Dense(CLASSES),
            keras.layers.Softmax(),
        ]
    )


def functional(size: int = 64):
    """The layers of the backbone and of the head in one model; two hidden layers that only their order tells apart."""
    base = backbone(size)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(base.output)
    x = keras.layers.Dense(12, name="second")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Dense(12, activation="relu", name="first")(x)
    return keras.Model(base.input, keras.layers.Dense(CLASSES, activation="softmax", name="zeroth")(x))


def wrapped(size: int = 64):
    """Models in models."""
    return keras.Sequential([keras.Sequential([notes(size)], name="outer")])


def logits_of(model, x: np.ndarray) -> np.ndarray:
    probabilities = model(x, training=False).numpy().astype(np.float64)
    return np.log(probabilities)  # up to a constant in each row


def pack(path: Path) -> None:
    target = FOLDER / f"{path.name}.gz"
    target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    print(f"  files/heads/{target.name}  {target.stat().st_size / 1000:.0f} kB")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    x = input_batch([2, 64, 64, 3])
    cases = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def add(model, name: str, save, files: list[str], hidden: list[int], stated: bool) -> None:
            fill(model)
            save(model, str(folder / name))
            for file in files:
                pack(folder / file)
            cases.append({"file": files[0], "files": files, "hidden": hidden, "stated": stated, "logits": b64(logits_of(model, x).astype(np.float32))})

        weights = lambda model, path: model.save_weights(path)
        whole = lambda model, path: model.save(path, save_format="h5")
        add(notes(), "notes-weights.h5", weights, ["notes-weights.h5"], [12], False)
        add(notes(), "notes-whole.h5", whole, ["notes-whole.h5"], [12], True)
        checkpoint = ["notes.ckpt.index", "notes.ckpt.data-00000-of-00001"]
        add(notes(), "notes.ckpt", weights, checkpoint, [12], False)
        add(functional(), "functional-whole.h5", whole, ["functional-whole.h5"], [12, 12], True)
        add(wrapped(), "wrapped-whole.h5", whole, ["wrapped-whole.h5"], [12], True)
    write_json(
        "files/heads/heads.json",
        {"writer": f"Keras {keras_package.__version__}", "input": [2, 64, 64, 3], "classes": CLASSES, "cases": cases},
    )


if __name__ == "__main__":
    main()
