"""Keras 2's EfficientNets, from behind the layers that normalise the picture."""

from __future__ import annotations

import math

from keras_nets import VERSION, Net, keras

SIZES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300}
DEPTHS = {"b0": 1.0, "b1": 1.1, "b2": 1.2, "b3": 1.4}
REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Table 1 of Tan and Le 2019, before it is multiplied by the depth."""


def efficientnet(name: str) -> Net:
    def build(input_shape, include_top=True):
        make = getattr(keras.applications, f"EfficientNet{name.upper()}")
        model = make(weights=None, input_shape=input_shape, include_top=include_top, classifier_activation=None)
        # With the mean and variance of keras_nets.weight_row, the layers before the stem now change nothing.
        (rescaling,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
        rescaling.scale = 1.0
        return model

    taps = {"stem": "stem_activation"}
    for stage, repeats in enumerate(REPEATS, start=1):
        for n in range(1, math.ceil(DEPTHS[name] * repeats) + 1):
            at = f"block{stage}{chr(ord('a') + n - 1)}"
            # The first of a stage changes channels or stride and has no addition.
            taps[f"stage{stage}.block{n}"] = f"{at}_{'project_bn' if n == 1 else 'add'}"
    taps |= {"top": "top_activation", "pre_logits": "avg_pool"}
    reference = f"keras.applications {VERSION} EfficientNet{name.upper()}, without its preprocessing"
    small = name == "b0"
    return Net(
        f"efficientnet_{name}",
        "keras",
        reference,
        build,
        taps,
        committed=small,
        trained=small,
        sizes=(SIZES[name], 193),
        smooth=True,
    )


NETS = {f"efficientnet_{name}.keras": lambda name=name: efficientnet(name) for name in SIZES}
