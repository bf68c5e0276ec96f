"""The tiny network of the reader fixtures: a convolution, a depthwise and a 1x1 one with batch norms, and a dense layer.

Its tensors in Keras' names and layouts, valued by the generator; the torch files hold the same in torch's.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from generator import row, tensor_of
from store import FIXTURES, b64, write_json

FOLDER = FIXTURES / "files"
LAYERS: list[tuple[str, list[tuple[str, list[int], str]]]] = [
    ("conv1", [("kernel", [3, 3, 3, 4], "kernel"), ("bias", [4], "bias")]),
    ("bn1", [("gamma", [4], "gamma"), ("beta", [4], "beta"), ("moving_mean", [4], "mean"), ("moving_variance", [4], "variance")]),
    ("dw2", [("depthwise_kernel", [3, 3, 4, 1], "depthwise")]),
    ("bn2", [("gamma", [4], "gamma"), ("beta", [4], "beta"), ("moving_mean", [4], "mean"), ("moving_variance", [4], "variance")]),
    ("conv2", [("kernel", [1, 1, 4, 5], "kernel"), ("bias", [5], "bias")]),
    ("fc", [("kernel", [5, 3], "classifier"), ("bias", [3], "bias")]),
]


def values(layer: str) -> list[np.ndarray]:
    """A layer's tensors in Keras' order."""
    return [tensor_of(row(f"{layer}/{leaf}", shape, role)) for leaf, shape, role in dict(LAYERS)[layer]]


def model(keras, nested: bool = False):
    """The network in Keras 2 or 3; `nested`: a Sequential of a functional model and the dense layer."""
    layers = keras.layers
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(image)
    x = layers.BatchNormalization(epsilon=1e-3, name="bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw2")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name="bn2")(x)
    x = layers.Conv2D(5, 1, name="conv2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if nested:
        body = keras.Model(image, x, name="body")
        whole = keras.Sequential([keras.Input((8, 8, 3)), body, layers.Dense(3, name="fc")], name="wrapped")
        owners = [*body.layers, whole.layers[-1]]
    else:
        whole = keras.Model(image, layers.Dense(3, name="fc")(x), name="tiny")
        owners = whole.layers
    for layer in owners:
        if layer.weights:
            layer.set_weights(values(layer.name))
    return whole


def tensor_entry(name: str, stored: np.ndarray, dtype: str | None = None, **more: Any) -> dict[str, Any]:
    """A tensor as a reader has to give it: its type in the file, its numbers as float32."""
    stored = np.asarray(stored)
    return {"name": name, **more, "dtype": dtype or str(stored.dtype), "shape": list(stored.shape), "values": b64(stored)}


def file_entry(file: str, about: str, tensors: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    bytes_ = (FOLDER / file).read_bytes()
    print(f"  files/{file}  {len(bytes_) / 1000:.0f} kB")
    sha256 = hashlib.sha256(bytes_).hexdigest()
    return {"file": file, "about": about, "bytes": len(bytes_), "sha256": sha256, **more, "tensors": tensors}


def write_index(name: str, writer: str, files: list[dict[str, Any]]) -> None:
    write_json(f"files/{name}.json", {"writer": writer, "files": files})


def h5_tensors(path, group: str = "/") -> list[dict[str, Any]]:
    """The tensors of a legacy Keras h5 in file order, by its attributes, as h5py reads them."""
    import h5py

    def attribute(at, name):
        if name in at.attrs:
            return list(at.attrs[name])
        parts, k = [], 0
        while f"{name}{k}" in at.attrs:
            parts += list(at.attrs[f"{name}{k}"])
            k += 1
        return parts

    def text(value):
        return value.decode() if isinstance(value, bytes) else str(value)

    entries = []
    with h5py.File(path) as f:
        root = f[group]
        for layer in map(text, attribute(root, "layer_names")):
            for weight in map(text, attribute(root[layer], "weight_names")):
                stored = root[layer][weight][()]
                entries.append(tensor_entry(weight.removesuffix(":0"), stored, layer=layer, path=f"{layer}/{weight}"))
    return entries
