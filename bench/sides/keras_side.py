"""Keras' side of a case that runs in one process: `keras_side.py` reads a task (JSON) and tells a record."""

from __future__ import annotations

import glob
import os

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


def decode(task: dict):
    """Decodes, resizes and mirrors at random every picture of a folder: tf.data with as many threads as it likes."""
    of, plain = task["case"], task["side"].get("resize") == "plain"
    side = of["side"]
    paths = sorted(glob.glob(os.path.join(task["files"], "train", "*", "*.jpg")))

    def picture(path):
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        if plain:
            return keras.applications.resnet50.preprocess_input(tf.image.resize(pixels, [side, side]))
        # torchvision's: the short side becomes 256, the middle 224x224 is kept
        height, width = (tf.cast(n, tf.float32) for n in tf.unstack(tf.shape(pixels))[:2])
        scale = round(side * 256 / 224) / tf.minimum(height, width)
        size = tf.cast(tf.floor(tf.stack([height, width]) * scale + 1e-3), tf.int32)
        larger = tf.image.resize(pixels, size, antialias=True)
        top, left = tf.unstack(tf.cast(tf.round(tf.cast(size - side, tf.float32) / 2), tf.int32))
        cut = tf.image.crop_to_bounding_box(larger, top, left, side, side)
        return (cut / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    files = tf.data.Dataset.from_tensor_slices(paths)
    mirrored = files.map(lambda path: tf.image.random_flip_left_right(picture(path)), tf.data.AUTOTUNE)
    batches = mirrored.batch(of["batch"]).prefetch(tf.data.AUTOTUNE)
    first = picture(paths[0]).numpy().mean(axis=(0, 1))

    def one() -> np.ndarray:
        count = sum(len(batch) for batch in batches)
        assert count == len(paths), count
        return first

    return one


WORKS = {"step": step, "forward": forward, "decode": decode}

if __name__ == "__main__":
    task = read_task()
    tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
    runs = f"Keras {keras_package.__version__}, TensorFlow {tf.__version__} ({python()})"
    tell({**time_steps(task, WORKS[task["case"]["work"]](task)), "runs": runs})
