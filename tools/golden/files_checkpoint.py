"""Reader fixtures written by TensorFlow's checkpoint writers: test/golden/fixtures/files/, with tensorflow.json.

    saver-v1.ckpt                one file, tf.compat.v1.train.Saver(write_version=V1), sharded too
    saver-v2.ckpt                the same variables, V2; a partitioned variable, EMA shadows, global_step, mean_rgb, a text
    saver-v1-two, saver-v2-two   of two devices, in two shards, each with half of a variable
    training.ckpt                name-based, as slim trains: slots of momentum and Adam, their powers, running averages
    types.ckpt                   every number type
    objects.ckpt                 tf.train.Checkpoint of an optimiser and variables of several types
    keras-weights.ckpt           Model.save_weights(..., save_format="tf") of the tiny network
    keras-training.ckpt          the same of a compiled model after a step, with the state of its optimiser
    keras-legacy.ckpt            tf.train.Checkpoint(net=, opt=, step=).save with an optimiser of old, which has slots
    saved-model/                 tf.saved_model.save of a module with the tiny network's variables
    frozen.pb                    the variables of saver-v1.ckpt as constants of a frozen graph
    frozen-kinds.pb              constants in every way a TensorProto holds numbers
    frozen-keras.pb              the tiny network of Keras 2, frozen by TensorFlow 2
"""

from __future__ import annotations

import os
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

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
    (FOLDER / "frozen.pb").write_bytes(graph_def.SerializeToString(deterministic=True))
    return of


def two_devices(version: int, prefix: str) -> dict[str, np.ndarray]:
    """A variable a device, and one that is cut into unequal columns over both."""
    of = {"first": tensor("first", [3, 2]), "second": tensor("second", [4]), "table": tensor("columns", [2, 5, 3])}
    write = v1.train.SaverDef.V1 if version == 1 else v1.train.SaverDef.V2
    with tf.Graph().as_default(), v1.Session() as session:
        variables = []
        for device, name in enumerate(("first", "second")):
            with v1.device(f"/cpu:{device}"):
                variables.append(v1.get_variable(name, initializer=tf.constant(of[name]), use_resource=False))
        devices = iter(("/cpu:0", "/cpu:1"))
        with v1.device(lambda op: next(devices) if op.type == "VariableV2" else ""):
            cut = tf.compat.v1.fixed_size_partitioner(2, axis=1)
            table = v1.get_variable("table", initializer=tf.constant(of["table"]), use_resource=False, partitioner=cut)
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver([*variables, table], write_version=write, sharded=True)
        saver.save(session, prefix, write_state=False, write_meta_graph=False)
    return of


def training(prefix: str) -> dict[str, np.ndarray]:
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        with v1.variable_scope("Tiny/conv1"):
            weights = v1.get_variable("weights", initializer=tf.constant(tensor("weights", [2, 3])))
        with v1.variable_scope("Tiny/fc"):
            biases = v1.get_variable("biases", initializer=tf.constant(tensor("biases", [3])))
        loss = tf.reduce_sum(tf.square(weights + biases))
        first = v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss, step, var_list=[weights])
        second = v1.train.AdamOptimizer(0.1).minimize(loss, var_list=[biases])
        averages = v1.train.ExponentialMovingAverage(0.5)
        with tf.control_dependencies([first, second]):
            run = averages.apply([weights, biases])
        session.run(v1.global_variables_initializer())
        session.run(run)
        v1.train.Saver().save(session, prefix, write_state=False, write_meta_graph=False)
        return {v.op.name: session.run(v) for v in v1.global_variables()}


def every_type(prefix: str) -> dict[str, np.ndarray]:
    of = {
        name: np.array([0, 1, top], name)
        for name, top in (
            ("int8", -128), ("uint8", 255), ("int16", -32768), ("uint16", 65535), ("int32", -(2**31)),
            ("uint32", 2**32 - 1), ("int64", -(2**62)), ("uint64", 2**63), ("float16", 6e-8), ("float32", 1e-45),
            ("float64", 0.1),
        )
    }  # fmt: skip
    of["bool"] = np.array([True, False])
    of["bfloat16"] = tf.constant([1.5, -2, 3e38], tf.bfloat16).numpy()
    variables = {name: tf.Variable(value, name=name) for name, value in of.items()}
    more = {"complex64": tf.Variable(1 + 2j, dtype=tf.complex64), "words": tf.Variable(["one", "two"])}
    v1.train.Saver({**variables, **more}).save(None, prefix, write_state=False, write_meta_graph=False)
    return of


def frozen_kinds() -> list[dict]:
    """Numbers packed and one a field, negative ones, halves by their bits, and fewer than the shape has."""
    proto = lambda dtype, shape: tf.make_tensor_proto(np.zeros(shape), dtype, shape)  # noqa: E731
    graph, found = tf.compat.v1.GraphDef(), []

    def add(name: str, shape: list[int], dtype: str, numbers: dict[str, list], stored) -> None:
        node = graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
        value = node.attr["value"].tensor
        value.CopyFrom(proto(tf.as_dtype(dtype), shape))
        value.ClearField("tensor_content")
        for field in ("float_val", "double_val", "half_val"):
            value.ClearField(field)
        for field, listed in numbers.items():
            getattr(value, field)[:] = listed
        assert np.array_equal(tf.make_ndarray(value).astype(np.float32), np.asarray(stored, np.float32))
        found.append(tensor_entry(name, np.asarray(stored, np.float32), dtype))

    add("floats", [3], "float32", {"float_val": [0.1, -2, 3]}, [0.1, -2, 3])
    add("doubles", [2, 1], "float64", {"double_val": [0.1, -2]}, [[0.1], [-2]])
    halves = np.array([0.5, -2], np.float16)
    add("halves", [2], "float16", {"half_val": halves.view(np.uint16).tolist()}, halves)
    brains = tf.constant([0.5, -2], tf.bfloat16).numpy()
    add("brains", [2], "bfloat16", {"half_val": brains.view(np.uint16).tolist()}, brains.astype(np.float32))
    add("filled", [2, 2], "float32", {"float_val": [0.25]}, [[0.25, 0.25], [0.25, 0.25]])
    add("tailed", [5], "float32", {"float_val": [1, 2, 3]}, [1, 2, 3, 3, 3])  # the last one stands for the rest
    add("zeros", [2, 2], "float32", {}, np.zeros([2, 2]))
    content = tensor("content", [70, 80])
    node = graph.node.add(name="content", op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(content))
    found.append(tensor_entry("content", content))
    for name, value in (("axes", np.array([1, -2], np.int32)), ("scalar", np.float32(2)), ("words", np.array(["a"]))):
        graph.node.add(name=name, op="Const").attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    (FOLDER / "frozen-kinds.pb").write_bytes(graph.SerializeToString(deterministic=True))
    return found


def frozen_keras() -> dict[str, np.ndarray]:
    network = model(keras)
    function = tf.function(lambda image: network(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec([None, 8, 8, 3]))
    graph = convert_variables_to_constants_v2(concrete).graph.as_graph_def()
    (FOLDER / "frozen-keras.pb").write_bytes(graph.SerializeToString(deterministic=True))
    return {f"tiny/{w.name.removesuffix(':0')}": w.numpy() for w in network.weights}


def trained(optimizer):
    network = model(keras)
    network.compile(optimizer, "mse")
    network.fit(np.zeros([2, 8, 8, 3], np.float32), np.zeros([2, 3], np.float32), verbose=0)
    return network


def stored(prefix: str) -> dict[str, np.ndarray]:
    """Key without its ending -> numbers."""
    reader = tf.train.load_checkpoint(prefix)
    values = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    values.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    return {key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): value for key, value in values.items()}


def keras_training() -> list[tuple[str, str, dict[str, np.ndarray]]]:
    network = trained(keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True))
    network.save_weights(str(FOLDER / "keras-training.ckpt"), save_format="tf")
    (FOLDER / "checkpoint").unlink()
    named = [*network.weights, *network.optimizer.variables, network.optimizer._learning_rate]
    first = {w.name.removesuffix(":0"): w.numpy() for w in named}

    network = trained(keras.optimizers.legacy.SGD(0.1, momentum=0.9))
    whole = tf.train.Checkpoint(net=network, opt=network.optimizer, step=tf.Variable(3))
    whole.write(str(FOLDER / "keras-legacy.ckpt"))
    second = {w.name.removesuffix(":0"): w.numpy() for w in network.weights}
    for path, value in stored(str(FOLDER / "keras-legacy.ckpt")).items():
        if ".OPTIMIZER_SLOT" in path or path in ("step", "save_counter"):
            second[path] = value
        elif path.startswith("opt/"):
            second[f"SGD/{path.removeprefix('opt/')}"] = value
    return [
        ("keras-training.ckpt.index", "a compiled model after a step, with the state of its optimiser", first),
        ("keras-legacy.ckpt.index", "tf.train.Checkpoint of a network, an optimiser with slots and a counter", second),
    ]


def saved_model() -> dict[str, np.ndarray]:
    module, of = tf.Module(), {}
    for layer, weights in LAYERS:
        part = tf.Module()
        setattr(module, layer, part)
        for leaf, shape, role in weights:
            of[f"{layer}/{leaf}"] = tensor_of(row(f"{layer}/{leaf}", shape, role))
            setattr(part, leaf, tf.Variable(of[f"{layer}/{leaf}"], name=f"{layer}/{leaf}"))
    tf.saved_model.save(module, str(FOLDER / "saved-model"))
    for extra in ("fingerprint.pb", "assets"):
        path = FOLDER / "saved-model" / extra
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    return of


def entries(values: dict[str, np.ndarray]) -> list[dict]:
    return [tensor_entry(name, np.asarray(values[name])) for name in sorted(values)]


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for name in ("saver-v", "objects.ckpt", "keras-", "training.ckpt", "types.ckpt"):
        for old in FOLDER.glob(f"{name}*"):
            old.unlink()
    shutil.rmtree(FOLDER / "saved-model", ignore_errors=True)
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

    values = two_devices(1, str(FOLDER / "saver-v1-two"))
    files.append(file_entry("saver-v1-two-00000-of-00002", "version 1 in two shards", entries(values)))
    values = two_devices(2, str(FOLDER / "saver-v2-two"))
    files.append(file_entry("saver-v2-two.index", "version 2 in two shards", entries(values)))
    values = training(str(FOLDER / "training.ckpt"))
    files.append(file_entry("training.ckpt.index", "slots, powers and averages by name", entries(values)))
    values = every_type(str(FOLDER / "types.ckpt"))
    brains = tensor_entry("bfloat16", values.pop("bfloat16").astype(np.float32), "bfloat16")
    files.append(file_entry("types.ckpt.index", "every number type", [brains, *entries(values)]))
    for file, about, values in keras_training():
        files.append(file_entry(file, about, entries(values)))
    values = saved_model()
    about = "variables of a SavedModel"
    files.append(file_entry("saved-model/variables/variables.index", about, entries(values)))
    files.append(file_entry("frozen-kinds.pb", "numbers in every field of a TensorProto", frozen_kinds()))
    files.append(file_entry("frozen-keras.pb", "Keras layers, frozen by TensorFlow 2", entries(frozen_keras())))
    write_index("tensorflow", f"tensorflow {tf.__version__}", files)


if __name__ == "__main__":
    main()
