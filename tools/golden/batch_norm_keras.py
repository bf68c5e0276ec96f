"""Batch norms in inference mode while their layers train, by Keras 2, for test/train/batch-norm.test.ts.

`model(x, training=False)` under a gradient tape: the moving statistics normalise and stay as they are, and everything
trainable, gamma and beta too, gets its gradient through them. Three steps of plain SGD on one batch, in double
precision: what is compared is float32. Parameters are tensors of generator.py called by their path in the network.
"""

from __future__ import annotations

import numpy as np
from generator import input_batch, tensor
from keras_nets import keras, layers, tf
from store import full, write_json

INPUT = (4, 12, 12, 3)
CLASSES = 3
LR = 0.1
NORM = {"epsilon": 1e-3, "momentum": 0.9}

#: path -> center, scale of its numbers
SPREAD = {"kernel": (0.0, 0.4), "bias": (0.1, 0.3), "gamma": (0.8, 0.4), "beta": (0.2, 0.4), "mean": (0.1, 0.3), "variance": (0.6, 0.4)}
LEAFS = {
    "depthwise_kernel": "kernel",
    "moving_mean": "mean",
    "moving_variance": "variance",
}


def network() -> keras.Model:
    x = keras.Input(INPUT[1:])
    y = layers.Conv2D(8, 3, padding="same", name="block1.conv")(x)  # its bias is no noise before such a norm
    y = layers.Activation("swish")(layers.BatchNormalization(name="block1.norm", **NORM)(y))
    y = layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False, name="block2.conv")(y)
    y = layers.Activation("swish")(layers.BatchNormalization(name="block2.norm", **NORM)(y))
    y = layers.Conv2D(8, 1, use_bias=False, name="block3.conv")(y)
    y = layers.Activation("swish")(layers.BatchNormalization(name="block3.norm", scale=False, **NORM)(y))
    y = layers.Dense(CLASSES, name="head.logits")(layers.GlobalAveragePooling2D()(y))
    return keras.Model(x, y)


def main() -> None:
    keras.backend.set_floatx("float64")
    model = network()
    paths, rows = {}, []
    for layer in model.layers:
        for variable in layer.weights:
            leaf = variable.name.split("/")[-1].split(":")[0]
            leaf = LEAFS.get(leaf, leaf)
            path = f"{layer.name}.{leaf}"
            center, scale = SPREAD[leaf]
            variable.assign(tensor(path, variable.shape, center, scale).astype("float64"))
            paths[variable.ref()] = path
            rows.append([path, list(variable.shape), center, scale])
    image = tf.constant(input_batch(INPUT).astype("float64"))
    labels = np.arange(INPUT[0]) % CLASSES
    targets = tf.one_hot(labels, CLASSES, dtype="float64")
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True)
    losses, gradients = [], {}
    for step in range(3):
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(image, training=False))
        found = tape.gradient(loss, model.trainable_variables)
        losses.append(float(loss))
        if step == 0:
            gradients = {paths[v.ref()]: full(g.numpy()) for v, g in zip(model.trainable_variables, found)}
        for variable, gradient in zip(model.trainable_variables, found):
            variable.assign_sub(LR * gradient)
    for variable in model.non_trainable_variables:
        row = next(row for row in rows if row[0] == paths[variable.ref()])
        assert np.array_equal(variable.numpy(), tensor(*row).astype("float64")), "statistics moved"
    write_json(
        "batch-norm.json",
        {
            "reference": f"Keras of TensorFlow {tf.__version__}, float64",
            "inputShape": list(INPUT),
            "labels": labels.tolist(),
            "lr": LR,
            **NORM,
            "tensors": rows,
            "losses": losses,
            "gradients": gradients,
        },
    )


if __name__ == "__main__":
    main()
