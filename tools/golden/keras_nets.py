"""Keras 2's own networks (keras.applications of TensorFlow 2.15): models, canonical taps, weight rows."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras as keras_package
import numpy as np
import tensorflow as tf

from generator import Row, row, tensor_of, training_row
from store import CASES, SIZES, TRAIN_INPUT

keras = tf.keras
layers = keras.layers
VERSION = keras_package.__version__


@dataclass
class Net:
    """A backbone in one source: how to build it, and which layer's output is which canonical tap."""

    backbone: str
    source: str
    reference: str
    build: Callable[..., "keras.Model"]
    """build(input_shape, include_top) -> model whose last output is logits (or the last tap without top)."""
    taps: dict[str, str] | Callable[["keras.Model", "tf.Tensor"], dict[str, "tf.Tensor"]]
    """Canonical tap -> layer name, without pre_logits and logits; or a function that computes them for an image."""
    committed: bool = False
    """Whether its forward fixture is committed; all are compared at real size by `npm run parity`."""
    trained: bool = False
    """Whether its training fixture is committed."""
    cases: Sequence[Sequence[int]] = CASES
    """Input shapes of the forward fixture."""
    sizes: Sequence[int] = SIZES
    """Input sizes of the comparison at real size."""
    channels: int = 3
    """Channels of its pictures."""
    train_input: Sequence[int] = TRAIN_INPUT
    """Input shape of the training fixture."""
    smooth: bool = False
    """Whether its activations have no kinks, so that a training fixture needs no weights that keep away from them."""
    training_row: Callable[[Row], Row] | None = None
    """A tensor's row in the training fixture, where other kinks than relu's have to be kept away from."""


CLASSIFIERS = ("predictions", "probs", "conv_preds", "fc1000", "Logits", "logits", "head")


def published_name(variable) -> str:
    return variable.name.removesuffix(":0")


def weight_row(name: str, shape, cut: str) -> Row:
    owner, leaf = name.rsplit("/", 1)
    if owner == "normalization":  # of the picture: fixtures begin behind it, so it subtracts 0 and divides by 1
        return name, list(shape), float(leaf == "variance"), 0.0
    last = owner.endswith(("_3_bn", "_branch2c", "project_BN", "project_bn", "conv3/BatchNorm", "project/BatchNorm"))
    last |= re.search(r"unit_\d+/batch_normalization_\d*[13579]$", owner) is not None  # the second norm of a basic block
    cut = "" if last else cut
    role = {
        "kernel": "classifier" if owner in CLASSIFIERS else "kernel",
        "depthwise_kernel": "depthwise",
        "bias": "bias_gate" if owner.endswith("squeeze_excite/Conv_1") else "bias",
        "beta": f"beta{cut}",
        "gamma": "gamma_last" if last else f"gamma{cut}",
        "moving_mean": "mean",
        "moving_variance": "variance",
    }[leaf]
    return row(name, shape, role)


def name_in_file(layer, variable) -> str:
    """The variable's name with the layer of the model in front, as Keras' h5 files group it."""
    name = published_name(variable)
    at = f"/{name}".find(f"/{layer.name}/")  # of a subclass of keras.Model, the model's name comes first
    return name[at:] if at >= 0 else f"{layer.name}/{name}"


def rows(model) -> list[Row]:
    """One row a weight, in the model's own order."""
    cut = "_relu6" if model.name.startswith("mobilenet") else "_hard" if model.name.startswith("MobilenetV3") else ""
    return [weight_row(name_in_file(at, w), w.shape, cut) for at in model.layers for w in at.weights]


def set_weights(model, training: bool | Callable[[Row], Row] = False) -> list[Row]:
    """Fills the model by the generator; for training, with weights that keep away from the kinks of relu (or of
    others, by a rule that gives a tensor's row)."""
    of = rows(model)
    if training:
        usual = lambda r: training_row(r, norm=r[0].endswith(("gamma", "beta")))  # noqa: E731
        of = [training(r) if callable(training) else usual(r) for r in of]
    model.set_weights([tensor_of(r) for r in of])
    return of


def pooled(model) -> "tf.Tensor":
    """The output of the global average pool: [N, C] or, in MobileNet v1, [N, 1, 1, C]."""
    (layer,) = [at for at in model.layers if isinstance(at, layers.GlobalAveragePooling2D)]
    return layer.output


def forward(net: Net, model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every tap, pre_logits [N, C] and logits [N, 1000], batch normalisation in inference mode."""
    image = tf.constant(image)
    computed, names = (net.taps(model, image), {}) if callable(net.taps) else ({}, net.taps)
    wanted = {tap: model.get_layer(name).get_output_at(-1) for tap, name in names.items()}
    if "pre_logits" not in computed | wanted:
        wanted["pre_logits"] = pooled(model)
    # Those of auxiliary classifiers come behind.
    wanted["logits"] = model.output[0] if isinstance(model.output, list) else model.output
    out = keras.Model(model.input, wanted)(image, training=False)
    values = {tap: v.numpy() for tap, v in (computed | out).items()}
    values["pre_logits"] = values["pre_logits"].reshape(len(image), -1)
    return {tap: values[tap] for tap in computed | wanted}
