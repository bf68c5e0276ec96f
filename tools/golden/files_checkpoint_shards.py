"""A reader fixture written by TensorFlow 2.18: test/golden/fixtures/files/sharded-objects.*, with tensorflow2.json.

tf.train.Checkpoint with shards of at most 400 bytes (MaxShardSizePolicy, new in 2.17): variables lie across several of
six files, in slices of unequal sizes.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from generator import tensor
from tiny import FOLDER, file_entry, tensor_entry, write_index

SHAPES = {"bias": [9], "kernel": [3, 3, 4, 5], "table": [50, 7]}


def main() -> None:
    for old in FOLDER.glob("sharded-objects.*"):
        old.unlink()
    module = tf.Module()
    for name, shape in SHAPES.items():
        setattr(module, name, tf.Variable(tensor(name, shape), name=f"layer/{name}"))
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=400)
    options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    tf.train.Checkpoint(net=module).write(str(FOLDER / "sharded-objects"), options=options)
    tensors = [tensor_entry(f"layer/{name}", getattr(module, name).numpy()) for name in SHAPES]
    about = "objects in six files, their variables in slices"
    write_index("tensorflow2", f"tensorflow {tf.__version__}", [file_entry("sharded-objects.index", about, tensors)])


if __name__ == "__main__":
    main()
