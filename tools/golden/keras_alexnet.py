"""AlexNet of half width as a tutorial builds it in Keras layers: once as a graph, once as a subclass of keras.Model."""

from __future__ import annotations

from generator import Row
from keras_nets import VERSION, Net, keras, layers


def convolutions():
    """From [224, 224, 3] to [6, 6, 128]."""
    return [
        layers.ZeroPadding2D(((1, 2), (1, 2))),
        layers.Conv2D(48, 11, strides=4, activation="relu"),
        layers.MaxPool2D(3, strides=2, name="pool1"),
        layers.Conv2D(128, 5, padding="same", activation="relu"),
        layers.MaxPool2D(3, strides=2, name="pool2"),
        layers.Conv2D(192, 3, padding="same", activation="relu"),
        layers.Conv2D(192, 3, padding="same", activation="relu"),
        layers.Conv2D(128, 3, padding="same", activation="relu"),
        layers.MaxPool2D(3, strides=2, name="pool5"),
    ]


def dense(units: tuple[int, int]):
    return [
        layers.Dropout(0.2),
        layers.Dense(units[0], activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(units[1], activation="relu"),
    ]


class AlexNetV2(keras.Model):
    def __init__(self):
        super().__init__()
        self.features = keras.Sequential(convolutions())
        self.flatten = layers.Flatten()
        self.classifier = keras.Sequential([*dense((1024, 128)), layers.Dense(1000)])

    def call(self, x):
        return self.classifier(self.flatten(self.features(x)))


def joined(parts, x):
    for part in parts:
        x = part(x)
    return x


def training_row(r: Row) -> Row:
    """Kernels of half the deviation below biases of 1: few activations come near 0, where relu has its kink."""
    name, shape, center, scale = r
    return (name, shape, 1.0, 0.5) if name.endswith("bias") else (name, shape, center, float(f"{scale / 2:.7g}"))


def net(name: str, build) -> Net:
    taps = {"conv1": "pool1", "conv2": "pool2", "conv3": "conv2d_2", "conv4": "conv2d_3", "conv5": "pool5"}
    taps |= {"fc1": "dense", "fc2": "dense_1", "pre_logits": "dense_1"}
    reference = f"Keras {VERSION} layers, {name} of the tutorial"
    return Net(
        name,
        "notes",
        reference,
        build,
        taps,
        committed=True,
        trained=name == "alexnet_v2",
        cases=[(1, 224, 224, 3), (1, 231, 250, 3)],
        sizes=(224, 251),
        train_input=(4, 224, 224, 3),
        training_row=training_row,
    )


def alexnet_v1() -> Net:
    def build(input_shape, include_top=True):
        image = keras.Input(input_shape)
        x = joined([*convolutions(), layers.Flatten(), *dense((2048, 2048))], image)
        return keras.Model(image, layers.Dense(1000)(x) if include_top else x)

    return net("alexnet_v1", build)


def alexnet_v2() -> Net:
    def build(input_shape, include_top=True):
        original = AlexNetV2()
        original.build((1, *input_shape))
        image = keras.Input(input_shape)
        parts = [*original.features.layers, original.flatten, *original.classifier.layers]
        model = keras.Model(image, joined(parts if include_top else parts[:-1], image))
        model.save_weights = original.save_weights
        return model

    return net("alexnet_v2", build)


NETS = {"alexnet_v1.notes": alexnet_v1, "alexnet_v2.notes": alexnet_v2}
