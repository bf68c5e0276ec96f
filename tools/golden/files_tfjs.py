"""Graphs of MobileNets as TensorFlow.js has them: `python files_tfjs.py`.

Google's slim networks in the form of TensorFlow Hub's modules (input 0..1, names below `module_apply_default`), frozen
and converted by tensorflowjs 4.22, and Keras' own, converted from a SavedModel. Only the topology is kept, with the
names and shapes of its constants: the tests make numbers from names. `constants` are the whole numbers among them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import types
from pathlib import Path

import slim_mobilenet
from generator import tensor_of
from slim_nets import slim, tf, v1, weight_row
from store import FIXTURES

# The converter imports these for formats that are not used here.
for name in ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["jax.experimental"].jax2tf = sys.modules["jax.experimental.jax2tf"]

from tensorflowjs import read_weights  # noqa: E402
from tensorflowjs.converters import tf_saved_model_conversion_v2 as converter  # noqa: E402

MODULE = "module_apply_default"


def mobilenet_v1(image, session, alpha: str):
    values = {r[0]: tensor_of(r) for r in slim_mobilenet.mobilenet_v1(alpha).rows}
    graph_def = slim_mobilenet.frozen_graph()
    for node in graph_def.node:
        if node.name in values:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name]))
    logits = "MobilenetV1/Logits/Conv2d_1c_1x1"
    names = ["MobilenetV1/MobilenetV1/Conv2d_13_pointwise/Relu6", f"{logits}/weights", f"{logits}/biases"]
    body = v1.graph_util.extract_sub_graph(graph_def, names)
    y, weights, biases = tf.import_graph_def(body, {"input:0": image}, [f"{n}:0" for n in names], name=MODULE)
    pooled = tf.reduce_mean(y, [1, 2], keepdims=True, name=f"{MODULE}/MobilenetV1/Logits/global_pool")
    scores = tf.nn.bias_add(tf.nn.conv2d(pooled, weights, 1, "SAME"), biases)
    return tf.squeeze(scores, [1, 2], name=f"{MODULE}/MobilenetV1/Logits/SpatialSqueeze")


def mobilenet_v2(image, session, alpha: str):
    nets = slim_mobilenet.published("mobilenet_v2")
    with tf.name_scope(MODULE), slim.arg_scope(nets.training_scope(is_training=False)):
        logits, _ = nets.mobilenet(
            image,
            num_classes=1001,
            depth_multiplier=float(alpha),
            finegrain_classification_mode=float(alpha) < 1,
        )
    for variable in v1.global_variables():
        variable.load(tensor_of(weight_row(variable.op.name, variable.shape.as_list())), session)
    return logits


def convert(build, alpha: str) -> dict:
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default() as graph, v1.Session() as session:
        placeholder = v1.placeholder(tf.float32, [None, 224, 224, 3], name="images")
        image = tf.subtract(tf.multiply(placeholder, 2.0), 1.0)
        image.set_shape([None, 224, 224, 3])
        output = build(image, session, alpha)
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), [output.op.name])
        (Path(folder) / "frozen.pb").write_bytes(frozen.SerializeToString())
        converter.convert_tf_frozen_model(f"{folder}/frozen.pb", output.op.name, f"{folder}/out")
        return json.loads((Path(folder) / "out" / "model.json").read_text())


def convert_keras(network) -> dict:
    for weight in network.weights:  # zeros and ones would be optimised away
        weight.assign(tf.random.uniform(weight.shape, 0.5, 1.5, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(network, f"{folder}/saved")
        converter.convert_tf_saved_model(f"{folder}/saved", f"{folder}/out")
        model = json.loads((Path(folder) / "out" / "model.json").read_text())
        (stored,) = read_weights.read_weights(model["weightsManifest"], f"{folder}/out")
    model["constants"] = {e["name"]: e["data"].reshape(-1).tolist() for e in stored if e["data"].dtype != "float32"}
    return model


def main() -> None:
    keras = tf.keras.applications
    for name, network in (
        ("keras_mobilenet_v1_0.25", keras.MobileNet(alpha=0.25, weights=None, classifier_activation=None)),
        ("keras_mobilenet_v2_0.35", keras.MobileNetV2(alpha=0.35, weights=None, classifier_activation=None)),
    ):
        model = convert_keras(network)
        for node in model["modelTopology"]["node"]:
            node.get("attr", {}).pop("_output_shapes", None)
        path = FIXTURES / "tfjs" / f"{name}.json"
        path.write_text(json.dumps(model, separators=(",", ":"), sort_keys=True) + "\n")
        print(f"  tfjs/{path.name}  {path.stat().st_size / 1000:.0f} kB")
    for name, build, alpha in (("mobilenet_v1_0.25", mobilenet_v1, "0.25"), ("mobilenet_v2_0.5", mobilenet_v2, "0.5")):
        model = convert(build, alpha)
        for node in model["modelTopology"]["node"]:
            node.get("attr", {}).pop("_input_shapes", None)
            # Modules of TensorFlow 1 call it so, and the package asks for that name.
            for key in ("name", "input"):
                if key in node:
                    node[key] = json.loads(json.dumps(node[key]).replace("Logits/AvgPool2D", "Logits/AvgPool"))
        path = FIXTURES / "tfjs" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(model, separators=(",", ":"), sort_keys=True) + "\n")
        print(f"  tfjs/{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
