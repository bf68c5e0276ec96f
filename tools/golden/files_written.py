"""What writing has to equal byte for byte: test/golden/fixtures/files/saver-written, by TensorFlow 1's Saver."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from generator import tensor
from tiny import FOLDER

v1 = tf.compat.v1


def main() -> None:
    of = {"global_step": np.int64(0)}
    for unit in range(6):
        for leaf in ("weights", "BatchNorm/gamma", "BatchNorm/beta", "BatchNorm/moving_mean", "BatchNorm/moving_variance"):
            name = f"resnet_v1_50/block1/unit_{unit}/bottleneck_v1/conv1/{leaf}"
            of[name] = tensor(name, [1, 1, 2, 3] if leaf == "weights" else [3])
    for name in ("resnet_v1_50/conv1/weights", "resnet_v1_50/logits/biases", "resnet_v1_50/logits/weights"):
        of[name] = tensor(name, [7])
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=tf.constant(value)) for name, value in of.items()]
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(variables, write_version=v1.train.SaverDef.V2)
        saver.save(session, str(FOLDER / "saver-written"), write_state=False, write_meta_graph=False)


if __name__ == "__main__":
    main()
