"""Exported checkpoints in TF-Slim (see roundtrip.py).

MobileNet v1, of which Google's code is not to be had here, runs as Google's frozen graph: its constants come from the
checkpoint, once by tf.train.load_checkpoint and once through variables that tf.compat.v1.train.Saver restores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from roundtrip import main, network_input, run_lines
from slim_mobilenet import mobilenet_v1, published
from slim_nets import forward, slim, tf, v1


def by_saver(prefix: str, of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, value.shape, value.dtype) for name, value in of.items()]
        v1.train.Saver(variables).restore(session, prefix)
        restored = dict(zip(of, session.run(variables)))
        session.run(v1.global_variables_initializer())
        slim.assign_from_checkpoint_fn(prefix, variables)(session)
        again = dict(zip(of, session.run(variables)))
    assert all(np.array_equal(restored[name], again[name]) for name in of)
    return restored


def logits(case: str, folder: Path, image: np.ndarray) -> np.ndarray:
    if case.startswith("mobilenet_v1"):
        prefix = v1.train.latest_checkpoint(str(folder))
        reader = tf.train.load_checkpoint(prefix)
        of = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
        restored = by_saver(prefix, of)
        assert all(np.array_equal(of[name], restored[name]) for name in of)
        return forward(mobilenet_v1(case.split("_")[2].removesuffix(".slim")), image, of)[1]["logits"]
    if case.startswith("mobilenet"):
        published(f"mobilenet_{case.split('_')[1]}")  # makes `nets` a module that can be imported
    names = run_lines(folder)
    return names["session"].run(names["logits"], {names["x"]: network_input(folder, names, image)})


if __name__ == "__main__":
    main(logits)
