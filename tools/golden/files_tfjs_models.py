"""Reader fixtures written by TensorFlow.js' converter: test/golden/fixtures/files/tfjs-*/, with tfjs.json.

    tfjs-layers          the tiny network of Keras, in shards of 300 bytes
    tfjs-layers-groups   the same, a group a layer, its kernels stored as uint8, uint16 and float16
    tfjs-layers-nested   a Sequential around a functional model
    tfjs-layers-keras    the tiny network, converted from a .keras archive
    tfjs-graph           the tiny network as a frozen graph, its kernels stored as uint8
    tfjs-manifest        weights_manifest.json alone, with every type the converter writes

What a reader must find is what tensorflowjs' own reader gives.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from generator import tensor
from tiny import FOLDER, file_entry, model, tensor_entry, write_index

# The converter imports these for formats that are not used here.
for name in ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["jax.experimental"].jax2tf = sys.modules["jax.experimental.jax2tf"]

import tensorflowjs as tfjs  # noqa: E402
from tensorflowjs.converters import converter  # noqa: E402
from tensorflowjs.converters import keras_h5_conversion as h5  # noqa: E402
from tensorflowjs.converters import tf_saved_model_conversion_v2 as graphs  # noqa: E402

v1 = tf.compat.v1
SHARD = 300
"""Bytes: so that tensors lie across files."""


OF_LAYERS = {
    "conv2/Conv2D/ReadVariableOp": "conv2/kernel",
    "conv2/BiasAdd/ReadVariableOp": "conv2/bias",
    "fc/MatMul/ReadVariableOp": "fc/kernel",
    "fc/BiasAdd/ReadVariableOp": "fc/bias",
}
"""Constants of the graph that were variables of layers, and are given out by those."""


def name_of(constant: str) -> str:
    own = OF_LAYERS.get(constant.removeprefix("StatefulPartitionedCall/tiny/"))
    return constant if own is None else f"tiny/{own}"


def entries(manifest: list[dict], folder: str) -> list[dict]:
    """The numeric tensors, as the reference reads them; the type is the one that they are given out as."""
    found = []
    for group in tfjs.read_weights.read_weights(manifest, str(FOLDER / folder)):
        for entry in group:
            if entry["data"].dtype not in (object, np.complex64):
                found.append(tensor_entry(name_of(entry["name"]), entry["data"]))
    return found


def described(folder: str, about: str, name: str = "model.json") -> dict:
    manifest = json.loads((FOLDER / folder / name).read_text())
    if isinstance(manifest, dict):
        manifest = manifest["weightsManifest"]
    return file_entry(f"{folder}/{name}", about, entries(manifest, folder))


def fresh(folder: str) -> str:
    path = FOLDER / folder
    shutil.rmtree(path, ignore_errors=True)
    return str(path)


def main() -> None:
    files = []
    save = tfjs.converters.save_keras_model
    save(model(tf.keras), fresh("tfjs-layers"), weight_shard_size_bytes=SHARD)
    files.append(described("tfjs-layers", "a layers model in several shards"))

    quantized = {"uint8": "conv1/*", "uint16": ["conv2/*", "dw2/*"], "float16": ["fc/*", "bn1/*"]}
    with tempfile.TemporaryDirectory() as folder:
        model(tf.keras).save(f"{folder}/tiny.h5")
        topology, groups = h5.h5_merged_saved_model_to_tfjs_format(f"{folder}/tiny.h5", split_by_layer=True)
    path = fresh("tfjs-layers-groups")
    os.makedirs(path)
    h5.write_artifacts(topology, groups, path, quantized)
    files.append(described("tfjs-layers-groups", "a group a layer, three kinds of quantisation"))

    save(model(tf.keras, nested=True), fresh("tfjs-layers-nested"))
    files.append(described("tfjs-layers-nested", "a Sequential around a functional model"))

    network = model(tf.keras)
    with tempfile.TemporaryDirectory() as folder:
        network.save(f"{folder}/tiny.keras")
        path = fresh("tfjs-layers-keras")
        formats = ["--input_format", "keras_keras", "--output_format", "tfjs_layers_model"]
        converter.convert([*formats, f"{folder}/tiny.keras", path])
    tensors = [tensor_entry(w.name.removesuffix(":0"), w.numpy()) for w in network.weights]
    files.append(file_entry("tfjs-layers-keras/model.json", "a .keras archive, converted", tensors))

    with tempfile.TemporaryDirectory() as folder:
        network.export(folder)
        path = fresh("tfjs-graph")
        graphs.convert_tf_saved_model(
            folder, path, quantization_dtype_map={"uint8": "*weights*"}, weight_shard_size_bytes=SHARD
        )
    topology = FOLDER / "tfjs-graph" / "model.json"  # its attributes come in any order
    topology.write_text(json.dumps(json.loads(topology.read_text()), sort_keys=True))
    files.append(described("tfjs-graph", "a graph model, batch norms folded by the converter"))

    groups = [
        [
            {"name": "kernel", "data": tensor("kernel", [3, 5])},
            {"name": "words", "data": np.array(["one", "", "dreiß"], object)},
            {"name": "axes", "data": np.array([1, 2], np.int32)},
            {"name": "flags", "data": np.array([True, False, True])},
        ],
        [
            {"name": "waves", "data": np.array([1 + 2j], np.complex64)},
            {"name": "long", "data": np.array([-7], np.int64)},
            {"name": "double", "data": tensor("double", [3]).astype(np.float64)},
            {"name": "same", "data": np.full([4], 0.5, np.float32)},
            {"name": "bytes", "data": np.array([0, 255], np.uint8)},
            {"name": "empty", "data": np.zeros([0, 2], np.float32)},
            {"name": "scalar", "data": np.array(0.1, np.float32)},
        ],
    ]
    path = fresh("tfjs-manifest")
    os.makedirs(path)
    tfjs.write_weights.write_weights(groups, path, shard_size_bytes=64, quantization_dtype_map={"uint8": "same"})
    about = "the manifest of a converter before version 1, every type"
    files.append(described("tfjs-manifest", about, "weights_manifest.json"))
    write_index("tfjs", f"tensorflowjs {tfjs.__version__}", files)


if __name__ == "__main__":
    main()
