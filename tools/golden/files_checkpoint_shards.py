"""Reader fixtures written by TensorFlow 2.18 and Keras 3: test/golden/fixtures/files/, with tensorflow2.json.

    sharded-objects.*    tf.train.Checkpoint with shards of at most 400 bytes (MaxShardSizePolicy, new in 2.17): variables
                         lie across several of six files, in slices of unequal sizes
    keras3-export/       Model.export of the tiny network, which keeps every variable twice; without its graph. The order
                         of the second listing differs between runs
    keras3-objects.*     tf.train.Checkpoint of it and its optimiser
"""

from __future__ import annotations

import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from generator import tensor
from tiny import FOLDER, file_entry, model, tensor_entry, write_index

SHAPES = {"bias": [9], "kernel": [3, 3, 4, 5], "table": [50, 7]}


def main() -> None:
    for old in [*FOLDER.glob("sharded-objects.*"), *FOLDER.glob("keras3-objects.*")]:
        old.unlink()
    module = tf.Module()
    for name, shape in SHAPES.items():
        setattr(module, name, tf.Variable(tensor(name, shape), name=f"layer/{name}"))
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=400)
    options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    tf.train.Checkpoint(net=module).write(str(FOLDER / "sharded-objects"), options=options)
    tensors = [tensor_entry(f"layer/{name}", getattr(module, name).numpy()) for name in SHAPES]
    files = [file_entry("sharded-objects.index", "objects in six files, their variables in slices", tensors)]

    network = model(keras)
    tensors = [tensor_entry(w.path, w.numpy()) for w in network.weights]
    with tempfile.TemporaryDirectory() as folder:
        network.export(folder, verbose=False)
        shutil.rmtree(FOLDER / "keras3-export", ignore_errors=True)
        shutil.copytree(f"{folder}/variables", FOLDER / "keras3-export" / "variables")
    about = "variables of a SavedModel that Keras 3 exported, each of them twice"
    files.append(file_entry("keras3-export/variables/variables.index", about, tensors))

    network.compile("sgd", "mse")
    tf.train.Checkpoint(model=network).write(str(FOLDER / "keras3-objects"))
    state = [tensor_entry(v.path, v.numpy()) for v in network.optimizer.variables]
    about = "tf.train.Checkpoint of a network of Keras 3 and its optimiser"
    files.append(file_entry("keras3-objects.index", about, [*tensors, *state]))
    write_index("tensorflow2", f"tensorflow {tf.__version__}", files)


if __name__ == "__main__":
    main()
