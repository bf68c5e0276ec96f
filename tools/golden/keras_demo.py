"""The network of TensorFlow's quickstart for experts, a subclass of keras.Model, and its layers one by one."""

from __future__ import annotations

from keras_nets import VERSION, Net, keras, layers, tf


class Demo(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv1 = layers.Conv2D(32, 3, activation="relu")
        self.flatten = layers.Flatten()
        self.d1 = layers.Dense(128, activation="relu")
        self.d2 = layers.Dense(10)

    def call(self, x):
        return self.d2(self.d1(self.flatten(self.conv1(x))))


def demo_cnn() -> Net:
    def build(input_shape, include_top=True):
        demo = Demo()
        demo(tf.zeros((1, *input_shape)))
        image = keras.Input(input_shape)
        body = demo.d1(demo.flatten(demo.conv1(image)))
        model = keras.Model(image, demo.d2(body) if include_top else body)
        model.save_weights = demo.save_weights
        return model

    taps = {"conv1": "conv2d", "fc1": "dense", "pre_logits": "dense"}
    reference = f"Keras {VERSION} layers, TensorFlow's quickstart for experts"
    digit = (28, 28, 1)
    return Net(
        "demo_cnn",
        "notes",
        reference,
        build,
        taps,
        committed=True,
        trained=True,
        cases=[(2, *digit)],
        sizes=[28],
        channels=1,
        train_input=(8, *digit),
        training_row=lambda r: r,
    )


NETS = {"demo_cnn.notes": demo_cnn}
