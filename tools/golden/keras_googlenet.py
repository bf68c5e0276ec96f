"""The paper's GoogLeNet, with biases and no norm, in Keras layers as the notes nest and name them.

Convolutions inside a module have no names of their own, so Keras counts them through the program: the file's names
depend on what was built before, and on whether the auxiliary classifiers are there.
"""

from __future__ import annotations

from typing import Callable

from keras_nets import VERSION, Net, keras, layers

MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Szegedy 2014, table 1."""


def conv(filters: int, size: int):
    return layers.Conv2D(filters, size, padding="same", activation="relu")


class Module(layers.Layer):
    def __init__(self, one, reduce3, three, reduce5, five, pool, **settings):
        super().__init__(**settings)
        self.branch1 = conv(one, 1)
        self.branch2 = keras.Sequential([conv(reduce3, 1), conv(three, 3)])
        self.branch3 = keras.Sequential([conv(reduce5, 1), conv(five, 5)])
        self.branch4 = keras.Sequential([layers.MaxPooling2D(3, strides=1, padding="same"), conv(pool, 1)])

    def call(self, x):
        return layers.concatenate([branch(x) for branch in (self.branch1, self.branch2, self.branch3, self.branch4)])


class Auxiliary(layers.Layer):
    """Dropout, which inference leaves out, is left out."""

    def __init__(self, classes, **settings):
        super().__init__(**settings)
        self.pool = layers.AveragePooling2D(5, strides=3)
        self.conv = conv(128, 1)
        self.flatten = layers.Flatten()
        self.fc1 = layers.Dense(1024, activation="relu")
        self.fc2 = layers.Dense(classes)

    def call(self, x):
        return self.fc2(self.fc1(self.flatten(self.conv(self.pool(x)))))


def googlenet() -> Net:
    def build(input_shape, include_top=True):
        pool = lambda name: layers.MaxPooling2D(3, strides=2, padding="same", name=name)  # noqa: E731
        same = {"padding": "same", "activation": "relu"}
        image = layers.Input(input_shape)
        x = pool("maxpool_1")(layers.Conv2D(64, 7, strides=2, name="conv2d_1", **same)(image))
        x = layers.Conv2D(192, 3, name="conv2d_3", **same)(layers.Conv2D(64, 1, name="conv2d_2", **same)(x))
        x = pool("maxpool_2")(x)
        auxiliary = []
        for name, filters in MODULES.items():
            if name in ("4a", "5a"):
                x = pool("maxpool_3" if name == "4a" else "maxpool_4")(x)
            x = Module(*filters, name=f"inception_{name}")(x)
            if name in ("4a", "4d"):
                auxiliary.append(Auxiliary(1000, name=f"aux_{len(auxiliary) + 1}")(x))
        logits = layers.Dense(1000, name="output_dense")(layers.GlobalAveragePooling2D()(x))
        return keras.Model(image, [logits, *auxiliary], name="googlenet")

    taps = {"stem.conv1": "conv2d_1", "stem.pool1": "maxpool_1", "stem.conv3": "conv2d_3", "stem": "maxpool_2"}
    taps |= {f"inception{name}": f"inception_{name}" for name in MODULES} | {"pool3": "maxpool_3", "pool4": "maxpool_4"}
    taps |= {"aux1.logits": "aux_1", "aux2.logits": "aux_2"}
    # The auxiliary classifiers fit sizes of 209 to 256; the odd ones among them halve to odd ones, down to the modules.
    return Net(
        *("googlenet", "notes", f"Keras {VERSION} layers", build, taps),
        committed=True,
        cases=((1, 209, 256, 3),),
        sizes=(224, 209),
    )


NETS: dict[str, Callable[[], Net]] = {"googlenet.notes": googlenet}
