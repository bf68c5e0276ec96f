"""Exported flax weights (see roundtrip.py), in the networks of flax_nets.py and in timm's reader of Google's files.

vit_jax is in no registry; its checkpoint.load is numpy.load, and the renaming that flax itself has.
"""

from __future__ import annotations

import json
from pathlib import Path

import flax.training.checkpoints
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from families import load
from flax_nets import forward
from roundtrip import main


def logits(case: str, folder: Path, image: np.ndarray) -> np.ndarray:
    file = folder / json.loads((folder / "loading.json").read_text())["file"]
    arrays = np.load(file)
    weights = {name: arrays[name] for name in arrays.files}
    # what vit_jax does to the names of files before linen
    renamed = flax.training.checkpoints.convert_pre_linen(unflatten_dict({tuple(k.split("/")): v for k, v in weights.items()}))
    names = {"/".join(path) for path in flatten_dict(renamed)}
    assert "Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel" in names, sorted(names)
    net = load("flax")[case]()
    own = "head/kernel" in weights
    model = net.build().clone(classes=weights["head/bias"].shape[0] if own else 1)
    net.build = lambda: model
    if own:
        return forward(net, weights, image)["logits"]
    # layers of a head that vit_jax has not, as the lines of loading.json apply them
    body = {name: value for name, value in weights.items() if not name.startswith("head/")}
    none = {"head/kernel": np.zeros([model.width, 1], np.float32), "head/bias": np.zeros([1], np.float32)}
    y = forward(net, body | none, image)["pre_logits"]
    layers = sorted({name.split("/")[1] for name in weights if name.startswith("head/")})  # dense1, ..., logits
    for layer in layers:
        y = y @ weights[f"head/{layer}/kernel"] + weights[f"head/{layer}/bias"]
        y = y if layer == "logits" else np.maximum(y, 0)
    return y


if __name__ == "__main__":
    main(logits)
