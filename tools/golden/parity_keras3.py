"""Keras 3's own files of Keras 3's networks for `npm run parity`: python parity_keras3.py NAME FOLDER (see parity.py).

`.keras` has the names of the layers in its configuration, `.weights.h5` beside each layer's weights.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from families import main_arguments
from generator import row, tensor_of
from parity import batch, write_case

applications = keras.applications
NETS = {
    "mobilenet_v2_1.0": (applications.MobileNetV2, {"block0": "expanded_conv_project_BN", "block16": "block_16_project_BN"}),
    "resnet50": (applications.ResNet50, {f"stage{i}": f"conv{i + 1}_block{n}_out" for i, n in enumerate((3, 4, 6, 3), 1)}),
}
FORMATS = {"archive": "model.keras", "weights": "model.weights.h5"}
CASES = {f"{net}.keras3-{format}": (net, format) for net in NETS for format in FORMATS}

def role_of(layer, variable, cut: str) -> str:
    """As keras_nets.weight_row has it for Keras 2's names."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return "depthwise"
    last = layer.name.endswith(("_3_bn", "project_BN"))
    return {
        "kernel": "classifier" if layer.name == "predictions" else "kernel",
        "bias": "bias",
        "gamma": "gamma_last" if last else f"gamma{cut}",
        "beta": "beta" if last else f"beta{cut}",
        "moving_mean": "mean",
        "moving_variance": "variance",
    }[variable.name]


def rows(model):
    """One row a variable, by the names of Keras 2's files."""
    cut = "_relu6" if model.name.startswith("mobilenet") else ""
    pairs = [(layer, variable) for layer in model.layers for variable in layer.weights]
    return [row(f"{layer.name}/{v.name}", v.shape, role_of(layer, v, cut)) for layer, v in pairs]


def main(name: str, folder: Path) -> None:
    net, format = CASES[name]
    build, taps = NETS[net]
    outputs = {}
    for size in (224, 193):
        keras.backend.clear_session()
        model = build(input_shape=(size, size, 3), weights=None, classifier_activation=None)
        of = rows(model)
        model.set_weights([tensor_of(r) for r in of])
        if size == 224:
            save = model.save if format == "archive" else model.save_weights
            save(folder / FORMATS[format])
        wanted = {tap: model.get_layer(layer).output for tap, layer in taps.items()}
        (pooled,) = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
        wanted |= {"pre_logits": pooled.output, "logits": model.output}
        image = batch(size)
        values = keras.Model(model.input, wanted).predict(image, verbose=0)
        outputs[str(size)] = (image, {tap: np.asarray(v) for tap, v in values.items()})
    reference = f"Keras {keras.__version__} {FORMATS[format]}"
    write_case(folder, net, "keras", reference, FORMATS[format], of, outputs)


if __name__ == "__main__":
    if arguments := main_arguments(CASES):
        main(arguments[0], Path(arguments[1]))
