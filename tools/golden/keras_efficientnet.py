"""Keras 2's EfficientNets, from behind the layers that normalise the picture."""

from __future__ import annotations

from keras_nets import VERSION, Net, keras

SIZES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300}


def efficientnet(name: str) -> Net:
    def build(input_shape, include_top=True):
        make = getattr(keras.applications, f"EfficientNet{name.upper()}")
        model = make(weights=None, input_shape=input_shape, include_top=include_top, classifier_activation=None)
        # With the mean and variance of keras_nets.weight_row, the layers before the stem now change nothing.
        (rescaling,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
        rescaling.scale = 1.0
        return model

    taps = {"stem": "stem_activation"}
    names = {layer.name for layer in build((64, 64, 3)).layers}
    for stage in range(1, 8):
        blocks = [b for b in "abcdef" if f"block{stage}{b}_project_bn" in names]
        for n, b in enumerate(blocks, start=1):
            at = f"block{stage}{b}"
            taps[f"stage{stage}.block{n}"] = f"{at}_add" if f"{at}_add" in names else f"{at}_project_bn"
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
