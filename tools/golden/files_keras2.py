"""Reader fixtures written by Keras 2 (and numpy): test/golden/fixtures/files/, with keras2.json and numpy.json."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras as keras_package
import numpy as np
import tensorflow as tf

from generator import row, tensor, tensor_of
from tiny_models import deep, expected, kinds
from tiny import FOLDER, file_entry, h5_tensors, model, tensor_entry, write_index

keras = tf.keras


def long_name(i: int) -> str:
    """3,000 characters, so that few layers pass the 64,512 bytes at which Keras splits an attribute."""
    return f"long_{i:02d}_" + "abcdefghij" * 299 + "xy"


def long_model(nested: bool):
    image = x = keras.layers.Input((2,))
    for i in range(11 if nested else 22):
        dense = nested or i % 8 == 0  # layers without weights are named too
        x = keras.layers.Dense(2, name=long_name(i))(x) if dense else keras.layers.Activation("relu", name=long_name(i))(x)
    body = keras.Model(image, x, name="body")
    for layer in body.layers:
        if layer.weights:
            names = [f"{layer.name}/{w.name.rsplit('/', 1)[1].removesuffix(':0')}" for w in layer.weights]
            layer.set_weights([tensor(n, w.shape) for n, w in zip(names, layer.weights)])
    return keras.Sequential([keras.Input((2,)), body], name="wrapped") if nested else body


def numpy_files() -> None:
    arrays = {
        "embedding/kernel": tensor_of(row("embedding/kernel", [2, 2, 3, 5], "kernel")),
        "cls": np.zeros((1, 1, 5), np.float32),
        "Transformer/encoder_norm/scale": tensor_of(row("Transformer/encoder_norm/scale", [5], "gamma")),
        "half": tensor("half", [7]).astype(np.float16),
        "double": tensor("double", [3, 2]).astype(np.float64),
        "fortran": np.asfortranarray(tensor("fortran", [3, 4])),
        "step": np.array(123456, np.int64),
        "empty": np.zeros((0, 4), np.float32),
    }
    entries = [tensor_entry(name, v) for name, v in arrays.items()]
    np.savez(FOLDER / "arrays.npz", **arrays)
    np.savez_compressed(FOLDER / "arrays-deflated.npz", **arrays)
    np.save(FOLDER / "array.npy", arrays["embedding/kernel"])
    np.save(FOLDER / "array-fortran.npy", arrays["fortran"])
    files = [
        file_entry("arrays.npz", "flax-like names, stored; one array in Fortran order", entries),
        file_entry("arrays-deflated.npz", "the same, deflated", entries),
        file_entry("array.npy", "float32, C order", entries[:1]),
        file_entry("array-fortran.npy", "float32, Fortran order", [entries[5]]),
    ]
    write_index("numpy", f"numpy {np.__version__}", files)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = []

    def add(file: str, about: str, group: str = "/", brief: bool = False) -> None:
        tensors = h5_tensors(FOLDER / file, group)
        if brief:  # the names are long enough once
            tensors = [{k: v for k, v in t.items() if k != "path" and not (k == "layer" and len(v) > 99)} for t in tensors]
        files.append(file_entry(file, about, tensors))

    tiny = model(keras)
    tiny.save_weights(FOLDER / "keras2-weights.h5")
    add("keras2-weights.h5", "save_weights: weights only")
    tiny.compile(keras.optimizers.Adam(), "mse")
    tiny.train_on_batch(np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 3), np.float32))
    fresh = model(keras)
    tiny.set_weights(fresh.get_weights())
    tiny.save(FOLDER / "keras2-whole.h5", save_format="h5")
    add("keras2-whole.h5", "save: whole model with optimizer weights beside it", "model_weights")

    nested = model(keras, nested=True)
    nested.save_weights(FOLDER / "keras2-nested-weights.h5")
    add("keras2-nested-weights.h5", "a Sequential around a functional model: the inner weights in one group")
    nested.save(FOLDER / "keras2-nested-whole.h5", save_format="h5")
    add("keras2-nested-whole.h5", "the same as a whole model", "model_weights")

    long_model(nested=False).save_weights(FOLDER / "keras2-chunked-layer-names.h5")
    add("keras2-chunked-layer-names.h5", "layer_names above 64,512 bytes: layer_names0, layer_names1", brief=True)
    long_model(nested=True).save_weights(FOLDER / "keras2-chunked-weight-names.h5")
    add("keras2-chunked-weight-names.h5", "weight_names of one layer above 64,512 bytes: weight_names0, weight_names1", brief=True)

    # A float16 copy, as people make to halve a download; datasets chunked and deflated, as h5repack leaves them.
    with h5py.File(FOLDER / "keras2-weights.h5") as source, h5py.File(FOLDER / "keras2-float16.h5", "w") as half:
        half.attrs.update(source.attrs)

        def copy(name, found):
            if isinstance(found, h5py.Group):
                half.require_group(name).attrs.update(found.attrs)
            else:
                half.create_dataset(name, data=found[()].astype(np.float16), chunks=True, compression="gzip")

        source.visititems(copy)
    add("keras2-float16.h5", "float16, datasets chunked and deflated")

    notes = deep(keras, unique=True)
    notes.compile(keras.optimizers.Adam(), "mse")
    weights = notes.get_weights()
    notes.train_on_batch(np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 3), np.float32))
    notes.set_weights(weights)
    notes.save_weights(FOLDER / "keras2-head-weights.h5")
    add("keras2-head-weights.h5", "models in models, and behind them the head of the notes' training script")
    notes.save(FOLDER / "keras2-head-whole.h5", save_format="h5")
    add("keras2-head-whole.h5", "the same as a whole model, with optimizer weights", "model_weights")

    # Keras 2.15's own .weights.h5 and .keras: Keras 3's layout, with no layer's name beside the weights
    shared = deep(keras, unique=False)
    shared.save_weights(FOLDER / "keras2-counted.weights.h5")
    about = "save_weights to .weights.h5: layers by class and number, one of them shared"
    files.append(file_entry("keras2-counted.weights.h5", about, expected(shared, configured=False, counted=True)))
    shared.compile(keras.optimizers.Adam(), "mse")
    weights = shared.get_weights()
    shared.train_on_batch(np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 3), np.float32))
    shared.set_weights(weights)
    shared.save(FOLDER / "keras2-shared.keras")
    about = "models in models, three layers of one name, one layer shared; with the state of an optimizer"
    files.append(file_entry("keras2-shared.keras", about, expected(shared)))
    every = kinds(keras)
    every.save(FOLDER / "keras2-kinds.keras")
    files.append(file_entry("keras2-kinds.keras", "a layer of every class with names of its own", expected(every)))
    write_index("keras2", f"Keras {keras_package.__version__}, h5py {h5py.__version__}", files)
    numpy_files()


if __name__ == "__main__":
    main()
