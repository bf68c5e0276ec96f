"""Keras' side of a case that runs in one process: `keras_side.py` reads a task (JSON) and tells a record."""

from __future__ import annotations

import keras as keras_package
import numpy as np
import tensorflow as tf

from generator import input_batch
from keras_networks import body, keras, with_head
from side import python, read_task, tell, time_steps


def images_of(of: dict) -> np.ndarray:
    return input_batch([of["batch"], of["side"], of["side"], 3])


def step(task: dict):
    """One step of training everything, batch norms in training mode: `train_on_batch`, as `fit` takes it."""
    of = task["case"]
    model = with_head(body(of, task["rows"]["body"]), task["rows"]["head"])
    images = images_of(of)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(of["lr"]), loss=loss)
    targets = np.eye(of["classes"], dtype=np.float32)[np.arange(of["batch"]) % of["classes"]]

    def one() -> list[float]:
        if keras_package.__version__.startswith("3."):
            model.reset_metrics()  # else its train_on_batch gives the mean loss of all batches so far
        return [float(model.train_on_batch(images, targets))]

    return one


def forward(task: dict):
    """pre_logits, everything frozen: by a tf.function of the model, or by its `predict`."""
    model, images = body(task["case"], task["rows"]["body"]), images_of(task["case"])
    if task["side"].get("call") == "predict":
        return lambda: model.predict(images, batch_size=len(images), verbose=0)
    function = tf.function(lambda x: model(x, training=False))
    return lambda: function(tf.constant(images)).numpy()


WORKS = {"step": step, "forward": forward}

if __name__ == "__main__":
    task = read_task()
    tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
    runs = f"Keras {keras_package.__version__}, TensorFlow {tf.__version__} ({python()})"
    tell({**time_steps(task, WORKS[task["case"]["work"]](task)), "runs": runs})
