"""The reference's half of the transfer proof: a Keras Dense layer on features that were computed before.

Reads a task (JSON) from standard input: `features` (a file of float32 [2, pictures, units], plain and mirrored),
`shape`, `classes`, `epochs`, `batchSize`, `lr`, `threads`, `draws`, and `runs`, each with a `seed` and the `train` and
`val` pictures as [index, label]. Trains each run `draws` times, with other starting numbers, order and mirrored
pictures, and gives the best epoch by validation loss and the last epoch of each time.
"""

from __future__ import annotations

import json
import math
import sys

import keras as keras_package
import numpy as np
import tensorflow as tf

keras = tf.keras


def train(task: dict, features: np.ndarray, run: dict, draw: int) -> dict:
    keras.backend.clear_session()
    keras.utils.set_random_seed(1000 * run["seed"] + draw)
    generator = np.random.default_rng([run["seed"], draw])
    pictures, labels = np.array(run["train"], np.int32).T
    val_pictures, val_labels = np.array(run["val"], np.int32).T
    size = task["batchSize"]
    total = task["epochs"] * math.ceil(len(pictures) / size)

    model = keras.Sequential([keras.layers.Input(features.shape[-1:]), keras.layers.Dense(task["classes"])])
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(task["lr"], total)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    epochs = []
    for _ in range(task["epochs"]):
        order = generator.permutation(len(pictures))
        mirrored = generator.integers(0, 2, len(pictures))  # each picture is mirrored in every second epoch or so
        x = features[mirrored, pictures[order]]
        model.fit(x, labels[order], batch_size=size, shuffle=False, verbose=0)
        loss, accuracy = model.evaluate(features[0, val_pictures], val_labels, batch_size=size, verbose=0)
        epochs.append({"loss": loss, "accuracy": accuracy})
    return {"best": min(epochs, key=lambda each: each["loss"]), "last": epochs[-1]}


def main(task: dict) -> dict:
    tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
    features = np.fromfile(task["features"], "<f4").reshape(task["shape"])
    return {
        "runs": [[train(task, features, run, draw) for draw in range(task["draws"])] for run in task["runs"]],
        "version": f"Keras {keras_package.__version__}, TensorFlow {tf.__version__}",
    }


if __name__ == "__main__":
    task = json.load(sys.stdin)
    result = main(task)
    print()
    print(json.dumps(result))
