"""The peer's side of one case: Keras, with the same weights, pictures and threads.

`peer.py` reads a task (JSON) from standard input and writes what it measured as the last line of its output; our side
is ours.mjs. `peer.py rows` writes the rows of the generated weights instead, which both sides are then given.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import keras as keras_package
import numpy as np
import tensorflow as tf

from generator import input_batch, tensor

keras = tf.keras


def build(of: dict) -> "keras.Model":
    """The network as its users write it: keras.applications, and a Dense layer where it is trained."""
    application = getattr(keras.applications, of["application"])
    body = application(weights=None, include_top=False, pooling="avg", input_shape=(of["side"], of["side"], 3))
    if of["work"] == "forward":
        return body
    return keras.Model(body.input, keras.layers.Dense(of["classes"], name="head")(body.output), name=body.name)


def rows(of: dict) -> list:
    """Generated weights that keep activations of this network within bounds, in the model's own order."""
    from keras_nets import set_weights

    return set_weights(build(of), training=of["work"] == "train")


def train_step(of: dict, model, images: np.ndarray):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(of["lr"]), loss=loss)
    targets = np.eye(of["classes"], dtype=np.float32)[np.arange(of["batch"]) % of["classes"]]

    def step() -> list[float]:
        if keras_package.__version__.startswith("3."):
            model.reset_metrics()  # else its train_on_batch gives the mean loss of all batches so far
        return [float(model.train_on_batch(images, targets))]

    return step


def forward(model, images: np.ndarray):
    function = tf.function(lambda x: model(x, training=False))
    return lambda: function(tf.constant(images)).numpy()


def peak_bytes() -> int:
    """Most memory this process ever had."""
    try:
        with open("/proc/self/status") as status:
            (line,) = [each for each in status if each.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(task: dict) -> dict:
    of = task["case"]
    tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
    model = build(of)
    model.set_weights([tensor(*row) for row in task["rows"]])
    images = input_batch([of["batch"], of["side"], of["side"], 3])
    step = train_step(of, model, images) if of["work"] == "train" else forward(model, images)
    outputs, times = [], []
    for i in range(task["warmUp"] + task["steps"]):
        began = time.perf_counter()
        numbers = step()
        ms = 1000 * (time.perf_counter() - began)
        if i >= task["warmUp"]:
            times.append(ms)
        if len(outputs) < task["keep"]:
            outputs.append(np.ravel(numbers).tolist())
    runs = f"Keras {keras_package.__version__}, TensorFlow {tf.__version__} (Python {sys.version.split()[0]})"
    return {"outputs": outputs, "timesMs": times, "peakBytes": peak_bytes(), "runs": runs}


if __name__ == "__main__":
    task = json.load(sys.stdin)
    print()
    print(json.dumps(rows(task["case"]) if sys.argv[1:] == ["rows"] else measure(task)))
