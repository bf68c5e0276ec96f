"""Google's MobileNet v1 in Keras: reads a frozen TensorFlow graph with slim's names into keras.applications' network.

Reads a task (JSON) from standard input: `graph` (the .pb) and `out`, which gets the `.h5` that Keras publishes its own
weights as. slim pads SAME where Keras pads at the bottom and the right: the same function wherever the input's sides are
multiples of 32, and only there.
"""

from __future__ import annotations

import json
import re
import sys

import keras
import numpy as np
import tensorflow as tf

NORM = ["gamma", "beta", "moving_mean", "moving_variance"]  # the order of keras.layers.BatchNormalization's weights


def slim_name(layer: str) -> str:
    """`conv_dw_3_bn` is slim's `Conv2d_3_depthwise/BatchNorm`."""
    if layer.startswith("conv1"):
        return "Conv2d_0" + ("/BatchNorm" if layer.endswith("_bn") else "")
    unit, block, norm = re.fullmatch(r"conv_(dw|pw)_(\d+)(_bn)?", layer).groups()
    return f"Conv2d_{block}_{'depthwise' if unit == 'dw' else 'pointwise'}" + ("/BatchNorm" if norm else "")


def main(task: dict) -> dict:
    graph = tf.compat.v1.GraphDef.FromString(open(task["graph"], "rb").read())
    constants = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"}
    model = keras.applications.MobileNet(weights=None)
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name == "conv_preds":
            logits = [constants[f"MobilenetV1/Logits/Conv2d_1c_1x1/{leaf}"] for leaf in ("weights", "biases")]
            numbers = [each[..., 1:] for each in logits]  # slim's first class is the background
        else:
            name = f"MobilenetV1/{slim_name(layer.name)}"
            if layer.name.endswith("_bn"):
                numbers = [constants[f"{name}/{leaf}"] for leaf in NORM]
            else:
                numbers = [constants[f"{name}/{'depthwise_weights' if 'dw' in layer.name else 'weights'}"]]
        layer.set_weights(numbers)
    model.save_weights(task["out"])
    return {"version": f"Keras {keras.__version__}, TensorFlow {tf.__version__}", "parameters": int(model.count_params())}


if __name__ == "__main__":
    print()
    print(json.dumps(main(json.load(sys.stdin))))
