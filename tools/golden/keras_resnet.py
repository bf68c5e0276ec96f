"""ResNet and ResNeXt in Keras: the published networks, and the notes' own."""

from __future__ import annotations

from typing import Callable

import keras_applications.resnext

from keras_nets import VERSION, Net, keras, layers

DEPTHS = {34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""He 2015, table 1."""


def named_taps(depths, stem: str, pool: str, block: Callable[[int, int], str]) -> dict[str, str]:
    taps = {"stem": stem, "stem.pool": pool}
    for stage, depth in enumerate(depths, start=1):
        for b in range(1, depth + 1):
            taps[f"stage{stage}.block{b}"] = block(stage, b)
    return taps


def published_taps(depth: int) -> dict[str, str]:
    return named_taps(DEPTHS[depth], "conv1_relu", "pool1_pool", lambda s, b: f"conv{s + 1}_block{b}_out")


def resnet(depth: int, **more) -> Net:
    def build(input_shape, include_top=True):
        return getattr(keras.applications, f"ResNet{depth}")(
            weights=None, input_shape=input_shape, include_top=include_top, classifier_activation=None
        )

    reference = f"keras.applications {VERSION} ResNet{depth}"
    return Net(f"resnet{depth}", "keras", reference, build, published_taps(depth), **more)


def resnext(depth: int, **more) -> Net:
    """The keras_applications package, which published ResNeXt; keras.applications has it no more."""

    def build(input_shape, include_top=True):
        modules = {"backend": keras.backend, "layers": layers, "models": keras.models, "utils": keras.utils}
        body = getattr(keras_applications.resnext, f"ResNeXt{depth}")(
            weights=None, input_shape=input_shape, include_top=False, **modules
        )
        if not include_top:
            return body
        # Its own top ends in a softmax.
        pooled = layers.GlobalAveragePooling2D(name="avg_pool")(body.output)
        return keras.Model(body.input, layers.Dense(1000, name="probs")(pooled), name=body.name)

    reference = f"keras_applications {keras_applications.__version__} ResNeXt{depth} with Keras {VERSION}"
    return Net(f"resnext{depth}_32x4d", "keras", reference, build, published_taps(depth), **more)


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

    taps = named_taps(DEPTHS[50], "stem_relu", "pool1", lambda s, b: f"stage{s}_block{b}")
    reference = f"Keras {VERSION} layers, the 2016-2018 ResNet50 (stride in the first 1x1, epsilon 1e-3)"
    return Net("resnet50", "keras_v1", reference, build, taps, committed=True)


class Unit(layers.Layer):
    """A residual block of the notes: its convolutions as (filters, size, stride, name), without bias, padding SAME.

    The layers of basic blocks are not named there, so that Keras numbers them: `conv2d_7`, `batch_normalization_7`.
    """

    def __init__(self, convolutions, shortcut, name):
        super().__init__(name=name)
        self.convolutions, self.norms = [], []
        for filters, size, stride, at in convolutions:
            named = lambda suffix: {"name": f"{at}{suffix}"} if at else {}  # noqa: E731
            self.convolutions.append(
                layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, **named(""))
            )
            self.norms.append(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **named("/BatchNorm")))
        self.shortcut = shortcut

    def call(self, inputs, training=False):
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs)
        x = inputs
        for k, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            x = keras.activations.relu(x) if k > 0 else x
            x = norm(convolution(x), training=training)
        return keras.activations.relu(shortcut + x)


def notes_resnet(depth: int, **more) -> Net:
    """The notes' network: v1.5 with SAME padding. A stage is a Sequential of units, a shortcut one of two layers."""
    basic = depth < 50

    def unit(planes: int, channels: int, stride: int, name: str) -> Unit:
        out = planes if basic else 4 * planes
        shortcut = None
        if stride != 1 or channels != out:
            shortcut = keras.Sequential(
                [
                    layers.Conv2D(out, 1, strides=stride, use_bias=False, name="conv1"),
                    layers.BatchNormalization(momentum=0.9, epsilon=1.001e-5, name="BatchNorm"),
                ],
                name="shortcut",
            )
        if basic:
            return Unit([(planes, 3, stride, None), (planes, 3, 1, None)], shortcut, name)
        return Unit([(planes, 1, 1, "conv1"), (planes, 3, stride, "conv2"), (out, 1, 1, "conv3")], shortcut, name)

    def build(input_shape, include_top=True):
        image = layers.Input(input_shape)
        x = layers.Conv2D(64, 7, strides=2, padding="same", use_bias=False, name="conv1")(image)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="conv1/BatchNorm")(x)
        x = layers.ReLU(name="stem_relu")(x)
        x = layers.MaxPool2D(3, strides=2, padding="same", name="stem_pool")(x)
        for stage, blocks in enumerate(DEPTHS[depth], start=1):
            planes, stride = 32 * 2**stage, 1 if stage == 1 else 2
            out = planes if basic else 4 * planes
            units = [unit(planes, x.shape[-1], stride, "unit_1")]
            units += [unit(planes, out, 1, f"unit_{b}") for b in range(2, blocks + 1)]
            x = keras.Sequential(units, name=f"block{stage}")(x)
        if include_top:
            x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
            x = layers.Dense(1000, name="logits")(x)
        return keras.Model(image, x, name=f"resnet{depth}")

    def taps(model, image) -> dict:
        names = {"stem": "stem_relu", "stem.pool": "stem_pool"}
        stem = {tap: model.get_layer(name).output for tap, name in names.items()}
        of = keras.Model(model.input, stem)(image, training=False)
        x = of["stem.pool"]
        for stage in range(1, 5):
            for b, block in enumerate(model.get_layer(f"block{stage}").layers, start=1):
                x = of[f"stage{stage}.block{b}"] = block(x, training=False)
        return of

    reference = f"Keras {VERSION} layers, the notes' resnet{depth} (v1.5, SAME padding)"
    return Net(f"resnet{depth}", "notes", reference, build, taps, **more)


NETS: dict[str, Callable[[], Net]] = {
    "resnet50.keras": lambda: resnet(50, committed=True, trained=True),
    "resnet101.keras": lambda: resnet(101),
    "resnet152.keras": lambda: resnet(152),
    "resnet50.keras_v1": resnet50_2016,
    "resnet34.notes": lambda: notes_resnet(34, committed=True),
    "resnet50.notes": lambda: notes_resnet(50, committed=True),
    "resnet101.notes": lambda: notes_resnet(101),
    "resnext50_32x4d.keras": lambda: resnext(50, committed=True),
    "resnext101_32x4d.keras": lambda: resnext(101),
}
