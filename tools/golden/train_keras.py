"""Training fixtures of the Keras networks: `python train_keras.py [fixture ...]`.

The whole network with one Dense layer `head` on pre_logits, batch normalisation in training mode, label-smoothed
cross-entropy on logits, Keras 2's Adam (learning rate 1e-3, epsilon 1e-7), the same batch ten times.
"""

from __future__ import annotations

import sys

import numpy as np

from families import load
from generator import input_batch
from keras_nets import keras, layers, name_in_file, set_weights, tf
from store import LABEL_SMOOTHING, TRAIN_CLASSES, train_fixture

NETS = load("keras")
ADAM = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
"""Keras 2's defaults."""


def run(name: str, dtype: str, steps: int):
    """Rows, losses, first gradients and first moving statistics, by published name."""
    keras.backend.clear_session()
    keras.backend.set_floatx(dtype)
    net = NETS[name]()
    body = net.build(net.train_input[1:], include_top=False)
    flat = len(body.output.shape) == 2
    pooled = body.output if flat else layers.GlobalAveragePooling2D()(body.output)
    model = keras.Model(body.input, layers.Dense(TRAIN_CLASSES, name="head")(pooled), name=body.name)
    of = set_weights(model, training=net.training_row or not net.smooth)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):  # of paths too
            layer.rate = 0.0

    image = tf.constant(input_batch(net.train_input).astype(dtype))
    labels = tf.one_hot(np.arange(net.train_input[0]) % TRAIN_CLASSES, TRAIN_CLASSES, dtype=dtype)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING)
    adam = keras.optimizers.Adam(**ADAM)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(image, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        adam.apply_gradients(zip(gradients, model.trainable_variables))
        return loss, gradients

    names = {v.ref(): name_in_file(layer, v) for layer in model.layers for v in layer.weights}
    losses, gradients, statistics = [], {}, {}
    for k in range(steps):
        loss, found = step()
        losses.append(float(loss))
        if k == 0:
            gradients = {names[v.ref()]: g.numpy() for v, g in zip(model.trainable_variables, found)}
            statistics = {names[v.ref()]: v.numpy() for v in model.non_trainable_variables}
    return of, losses, gradients, statistics


def main(names: list[str]) -> None:
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    for name in names or [name for name, make in NETS.items() if make().trained]:
        net = NETS[name]()
        of, losses, gradients, statistics = run(name, "float32", 10)
        exact = run(name, "float64", 1)[2]
        settings = {"lr": ADAM["learning_rate"], "beta1": ADAM["beta_1"], "beta2": ADAM["beta_2"], "epsilon": ADAM["epsilon"]}
        train_fixture(net.backbone, net.source, net.reference, of, net.train_input, settings, losses, gradients, statistics, exact)


if __name__ == "__main__":
    main(sys.argv[1:])
