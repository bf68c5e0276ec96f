"""TF-Slim's networks: how one runs, and its weight rows."""

from __future__ import annotations

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


def weight_row(name: str, shape) -> Row:
    owner, leaf = name.rsplit("/", 1)
    last = owner.endswith(("conv3/BatchNorm", "project/BatchNorm"))
    cut = "_hard" if name.startswith("MobilenetV3") else "_relu6" if name.startswith("Mobilenet") else ""
    cut = "" if last else cut
    role = {
        "weights": "classifier" if "ogits" in owner else "kernel",
        "depthwise_weights": "depthwise",
        "biases": "bias_gate" if owner.endswith("squeeze_excite/Conv_1") else "bias",
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
            # In one run: one a variable takes minutes where there are hundreds.
            given = {v.initializer.inputs[1]: tensor_of(r) for v, r in zip(variables, of)}
            session.run([v.initializer for v in variables], given)
        values = session.run(taps, {placeholder: image})
    for name in ("pre_logits", "logits"):
        values[name] = values[name].reshape(len(image), -1)
    return of, {tap: values[tap] for tap in taps}
