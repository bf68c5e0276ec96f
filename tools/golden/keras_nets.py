"""Keras 2's own networks (keras.applications of TensorFlow 2.15): models, canonical taps, weight rows."""

from __future__ import annotations

import os
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
    taps: dict[str, str]
    """Canonical tap -> layer name, without pre_logits and logits."""
    committed: bool = False
    """Whether its forward fixture is committed; all are compared at real size by `npm run parity`."""
    trained: bool = False
    """Whether its training fixture is committed."""
    cases: Sequence[Sequence[int]] = CASES
    """Input shapes of the forward fixture."""
    sizes: Sequence[int] = SIZES
    """Input sizes of the comparison at real size."""
    train_input: Sequence[int] = TRAIN_INPUT
    """Input shape of the training fixture."""


def resnet_taps(stem: str, pool: str, block: Callable[[int, int], str]) -> dict[str, str]:
    taps = {"stem": stem, "stem.pool": pool}
    for stage, depth in enumerate((3, 4, 6, 3), start=1):
        for b in range(1, depth + 1):
            taps[f"stage{stage}.block{b}"] = block(stage, b)
    return taps


def resnet50() -> Net:
    def build(input_shape, include_top=True):
        return keras.applications.ResNet50(
            weights=None, input_shape=input_shape, include_top=include_top, classifier_activation=None
        )

    taps = resnet_taps("conv1_relu", "pool1_pool", lambda s, b: f"conv{s + 1}_block{b}_out")
    reference = f"keras.applications {VERSION} ResNet50"
    return Net("resnet50", "keras", reference, build, taps, committed=True, trained=True)


def mobilenet_v1(alpha: str) -> Net:
    def build(input_shape, include_top=True):
        return keras.applications.MobileNet(
            weights=None, input_shape=input_shape, alpha=float(alpha), include_top=include_top, classifier_activation=None
        )

    taps = {"stem": "conv1_relu"} | {f"block{i}": f"conv_pw_{i}_relu" for i in range(1, 14)}
    reference = f"keras.applications {VERSION} MobileNet(alpha={alpha})"
    return Net(f"mobilenet_v1_{alpha}", "keras", reference, build, taps, committed=True, trained=alpha == "0.25")


def mobilenet_v2(alpha: str) -> Net:
    def build(input_shape, include_top=True):
        return keras.applications.MobileNetV2(
            weights=None, input_shape=input_shape, alpha=float(alpha), include_top=include_top, classifier_activation=None
        )

    taps = {"stem": "Conv1_relu", "block0": "expanded_conv_project_BN"}
    # Table 2 of Sandler 2018: the first block of every group changes channels or stride and has no addition.
    first = {1, 3, 6, 10, 13, 16}
    taps |= {f"block{i}": f"block_{i}_{'project_BN' if i in first else 'add'}" for i in range(1, 17)}
    taps |= {"top": "out_relu"}
    reference = f"keras.applications {VERSION} MobileNetV2(alpha={alpha})"
    return Net(f"mobilenet_v2_{alpha}", "keras", reference, build, taps, committed=True, trained=alpha == "0.35")


def resnet50_2016() -> Net:
    """ResNet-50 as the `keras` package had it from 2016 to 2018 (res2a_branch2a ... fc1000).

    Written from its published layer names and hyper-parameters: convolutions with bias, batch normalisation with
    Keras' default epsilon 1e-3, stride in the first 1x1, explicit 3- and 1-pixel padding before stem and max-pool.
    """

    def conv_norm(x, filters, kernel, stride, padding, conv_name, norm_name, relu=True):
        x = layers.Conv2D(filters, kernel, strides=stride, padding=padding, name=conv_name)(x)
        x = layers.BatchNormalization(epsilon=1e-3, name=norm_name)(x)
        return layers.Activation("relu")(x) if relu else x

    def build(input_shape, include_top=True):
        image = layers.Input(input_shape)
        x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
        x = layers.Conv2D(64, 7, strides=2, name="conv1")(x)
        x = layers.BatchNormalization(epsilon=1e-3, name="bn_conv1")(x)
        x = layers.Activation("relu", name="stem_relu")(x)
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
        for stage, depth in zip((2, 3, 4, 5), (3, 4, 6, 3)):
            width = 64 * 2 ** (stage - 2)
            for b in range(depth):
                at, stride = f"{stage}{'abcdef'[b]}_branch", 2 if b == 0 and stage > 2 else 1
                shortcut = x
                if b == 0:
                    shortcut = conv_norm(x, 4 * width, 1, stride, "valid", f"res{at}1", f"bn{at}1", relu=False)
                y = conv_norm(x, width, 1, stride, "valid", f"res{at}2a", f"bn{at}2a")
                y = conv_norm(y, width, 3, 1, "same", f"res{at}2b", f"bn{at}2b")
                y = conv_norm(y, 4 * width, 1, 1, "valid", f"res{at}2c", f"bn{at}2c", relu=False)
                y = layers.Add()([y, shortcut])
                x = layers.Activation("relu", name=f"stage{stage - 1}_block{b + 1}")(y)
        if include_top:
            x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
            x = layers.Dense(1000, name="fc1000")(x)
        return keras.Model(image, x, name="resnet50")

    taps = resnet_taps("stem_relu", "pool1", lambda s, b: f"stage{s}_block{b}")
    reference = f"Keras {VERSION} layers, the 2016-2018 ResNet50 (stride in the first 1x1, epsilon 1e-3)"
    return Net("resnet50", "keras_v1", reference, build, taps, committed=True)


NETS: dict[str, Callable[[], Net]] = {
    "resnet50.keras": resnet50,
    "resnet50.keras_v1": resnet50_2016,
    "mobilenet_v1_1.0.keras": lambda: mobilenet_v1("1.0"),
    "mobilenet_v1_0.25.keras": lambda: mobilenet_v1("0.25"),
    "mobilenet_v2_1.0.keras": lambda: mobilenet_v2("1.0"),
    "mobilenet_v2_0.35.keras": lambda: mobilenet_v2("0.35"),
    "mobilenet_v2_1.4.keras": lambda: mobilenet_v2("1.4"),
}

CLASSIFIERS = ("predictions", "conv_preds", "fc1000", "head")


def published_name(variable) -> str:
    return variable.name.removesuffix(":0")


def weight_row(name: str, shape, relu6: bool) -> Row:
    owner, leaf = name.rsplit("/", 1)
    last = owner.endswith(("_3_bn", "_branch2c", "project_BN"))
    cut = "_relu6" if relu6 and not last else ""
    role = {
        "kernel": "classifier" if owner in CLASSIFIERS else "kernel",
        "depthwise_kernel": "depthwise",
        "bias": "bias",
        "beta": f"beta{cut}",
        "gamma": "gamma_last" if last else f"gamma{cut}",
        "moving_mean": "mean",
        "moving_variance": "variance",
    }[leaf]
    return row(name, shape, role)


def rows(model) -> list[Row]:
    """One row a weight, in the model's own order."""
    relu6 = model.name.startswith("mobilenet")
    return [weight_row(published_name(w), w.shape, relu6) for w in model.weights]


def set_weights(model, training: bool = False) -> list[Row]:
    """Fills the model by the generator."""
    of = [training_row(r, norm=r[0].endswith(("gamma", "beta"))) for r in rows(model)] if training else rows(model)
    model.set_weights([tensor_of(r) for r in of])
    return of


def pooled(model) -> "tf.Tensor":
    """The output of the global average pool: [N, C] or, in MobileNet v1, [N, 1, 1, C]."""
    (layer,) = [at for at in model.layers if isinstance(at, layers.GlobalAveragePooling2D)]
    return layer.output


def forward(net: Net, model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every tap, pre_logits [N, C] and logits [N, 1000], batch normalisation in inference mode."""
    wanted = {tap: model.get_layer(name).output for tap, name in net.taps.items()}
    wanted |= {"pre_logits": pooled(model), "logits": model.output}
    out = keras.Model(model.input, wanted)(tf.constant(image), training=False)
    values = {tap: v.numpy() for tap, v in out.items()}
    values["pre_logits"] = values["pre_logits"].reshape(len(image), -1)
    return {tap: values[tap] for tap in wanted}
