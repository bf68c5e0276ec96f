"""Reader fixtures written by TensorFlow's checkpoint writers: test/golden/fixtures/files/, with tensorflow.json.

    saver-v1.ckpt                one file, tf.compat.v1.train.Saver(write_version=V1), sharded too
    saver-v2.ckpt                the same variables, V2; a partitioned variable, EMA shadows, global_step, mean_rgb, a text
    objects.ckpt                 tf.train.Checkpoint of an optimiser and variables of several types
    keras-weights.ckpt           Model.save_weights(..., save_format="tf") of the tiny network
    frozen.pb                    the variables of saver-v1.ckpt as constants of a frozen graph
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from generator import row, tensor, tensor_of
from tiny import FOLDER, LAYERS, file_entry, model, tensor_entry, write_index

v1 = tf.compat.v1
keras = tf.keras


def slim_values() -> dict[str, np.ndarray]:
    of = {}
    for layer, weights in LAYERS:
        for leaf, shape, role in weights:
            name = f"Tiny/{layer}/{leaf}"
            of[name] = tensor_of(row(name, shape, role))
    of["Tiny/conv1/kernel/ExponentialMovingAverage"] = tensor("shadow", [3, 3, 3, 4])
    of["global_step"] = np.int64(123456789)
    of["mean_rgb"] = np.array([123.68, 116.78, 103.94], np.float32)
    of["doubles"] = tensor("doubles", [5]).astype(np.float64)
    return of


def saver(version: int, folder: str) -> dict[str, np.ndarray]:
    of = slim_values()
    write = v1.train.SaverDef.V1 if version == 1 else v1.train.SaverDef.V2
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=tf.constant(value)) for name, value in of.items()]
        with v1.variable_scope("parts", partitioner=tf.compat.v1.fixed_size_partitioner(3, axis=0)):
            whole = tensor("parts/table", [7, 4])
            parts = v1.get_variable("table", initializer=tf.constant(whole), use_resource=False)
        session.run(v1.global_variables_initializer())
        v1.train.Saver([*variables, parts], write_version=write).save(session, folder, write_state=False, write_meta_graph=False)
        if version == 1:
            sharded = v1.train.Saver([*variables, parts], write_version=write, sharded=True)
            sharded.save(session, f"{folder}-sharded", write_state=False, write_meta_graph=False)
    return of | {"parts/table": whole}


def frozen() -> dict[str, np.ndarray]:
    of = {name: value for name, value in slim_values().items() if name.startswith("Tiny/") or name == "doubles"}
    of["filled"] = np.full([2, 3], 0.25, np.float32)
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [None, 8, 8, 3], name="image")
        total = tf.reduce_sum(image, axis=[1, 2])
        for name, value in of.items():
            total = tf.add(total[:, :1], tf.cast(tf.reduce_sum(tf.constant(value, name=name)), tf.float32))
        graph_def = graph.as_graph_def()
    for node in graph_def.node:  # as graphs that were optimised have it: one number for all
        if node.name == "filled":
            node.attr["value"].tensor.ClearField("tensor_content")
            node.attr["value"].tensor.float_val[:] = [0.25]
    (FOLDER / "frozen.pb").write_bytes(graph_def.SerializeToString())
    return of


def entries(values: dict[str, np.ndarray]) -> list[dict]:
    return [tensor_entry(name, np.asarray(values[name])) for name in sorted(values)]


def main() -> None:
    for old in [*FOLDER.glob("*.ckpt*")]:
        old.unlink()
    files = []
    values = saver(1, str(FOLDER / "saver-v1.ckpt"))
    about = "version 1, as slim's ResNet v1 comes; a variable in three parts"
    files.append(file_entry("saver-v1.ckpt", about, entries(values)))
    (sharded,) = FOLDER.glob("saver-v1.ckpt-sharded*")
    files.append(file_entry(sharded.name, "version 1, named as shards are", entries(values)))

    values = saver(2, str(FOLDER / "saver-v2.ckpt"))
    files.append(file_entry("saver-v2.ckpt.index", "version 2, as slim's MobileNets come", entries(values)))

    module = tf.Module()
    module.half = tf.Variable(tensor("half", [3]).astype(np.float16), name="half")
    module.brain = tf.Variable(tf.cast(tensor("brain", [3]), tf.bfloat16), name="brain")
    module.flag = tf.Variable([True, False], name="flag")
    module.inner = tf.Module()
    module.inner.kernel = tf.Variable(tensor("kernel", [2, 3]), name="layer/kernel")
    module.twice = tf.Variable(tensor("twice", [2]), name="layer/kernel")
    tf.train.Checkpoint(model=module, note=tf.Variable("text")).write(str(FOLDER / "objects.ckpt"))
    stored = {
        "half": module.half.numpy(),
        "flag": module.flag.numpy(),
        "model/inner/kernel": module.inner.kernel.numpy(),
        "model/twice": module.twice.numpy(),
    }
    brain = tensor_entry("brain", tf.cast(module.brain, tf.float32).numpy(), "bfloat16")
    files.append(file_entry("objects.ckpt.index", "objects; two variables of one name", [brain, *entries(stored)]))

    whole = model(keras)
    whole.save_weights(str(FOLDER / "keras-weights.ckpt"), save_format="tf")
    (FOLDER / "checkpoint").unlink()
    values = {w.name.removesuffix(":0"): w.numpy() for w in whole.weights}
    files.append(file_entry("keras-weights.ckpt.index", "Keras 2's save_weights in its own format", entries(values)))
    values = frozen()
    files.append(file_entry("frozen.pb", "a frozen graph", entries(values)))
    write_index("tensorflow", f"tensorflow {tf.__version__}", files)


if __name__ == "__main__":
    main()
