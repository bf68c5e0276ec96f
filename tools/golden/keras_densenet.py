"""Keras 2's DenseNet-121."""

from __future__ import annotations

from keras_nets import VERSION, Net, keras

DEPTHS = (6, 12, 24, 16)


def densenet121() -> Net:
    def build(input_shape, include_top=True):
        return keras.applications.DenseNet121(
            weights=None, input_shape=input_shape, include_top=include_top, classifier_activation=None
        )

    taps = {"stem": "conv1/relu", "stem.pool": "pool1"}
    for stage, depth in enumerate(DEPTHS, start=1):
        taps |= {f"stage{stage}.block{n}": f"conv{stage + 1}_block{n}_concat" for n in range(1, depth + 1)}
        if stage < len(DEPTHS):
            taps[f"transition{stage}"] = f"pool{stage + 1}_pool"
    taps["top"] = "relu"
    return Net("densenet121", "keras", f"keras.applications {VERSION} DenseNet121", build, taps, committed=True)


NETS = {"densenet121.keras": densenet121}
