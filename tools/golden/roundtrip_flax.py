"""Exported flax weights (see roundtrip.py), in the networks of flax_nets.py and in timm's reader of Google's files.

vit_jax is in no registry; its checkpoint.load is numpy.load, and the renaming that flax itself has.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import flax.training.checkpoints
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from families import load
from flax_nets import VisionTransformer, forward
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
    model = net.build()
    model = model.clone(classes=weights["head/bias"].shape[0])
    net.build = lambda: model
    return forward(net, weights, image)["logits"]


if __name__ == "__main__":
    main(logits)
