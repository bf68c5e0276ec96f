"""Reader fixtures written by Keras 3: test/golden/fixtures/files/, with keras3.json."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from tiny_models import deep, expected, fill, kinds
from tiny import FOLDER, file_entry, h5_tensors, model, tensor_entry, write_index


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = []
    tiny, nested = model(keras), model(keras, nested=True)

    tiny.save(FOLDER / "keras3-whole.h5")
    about = "save as .h5: the legacy layout; the depthwise kernel is called kernel"
    files.append(file_entry("keras3-whole.h5", about, h5_tensors(FOLDER / "keras3-whole.h5", "model_weights")))
    nested.save(FOLDER / "keras3-nested-whole.h5")
    about = "a Sequential around a functional model, legacy layout"
    files.append(file_entry("keras3-nested-whole.h5", about, h5_tensors(FOLDER / "keras3-nested-whole.h5", "model_weights")))
    with h5py.File(FOLDER / "keras3-legacy-weights.h5", "w") as f:
        legacy_h5_format.save_weights_to_hdf5_group(f, tiny)
    about = "the legacy layout, weights only"
    files.append(file_entry("keras3-legacy-weights.h5", about, h5_tensors(FOLDER / "keras3-legacy-weights.h5")))
    tiny.save_weights(FOLDER / "keras3.weights.h5")
    about = "save_weights: Keras 3's own layout, each layer's name an attribute"
    files.append(file_entry("keras3.weights.h5", about, expected(tiny, configured=False)))

    shared = deep(keras, unique=False)
    shared.save_weights(FOLDER / "keras3-shared.weights.h5")
    about = "models in models, three layers of one name, one layer shared"
    files.append(file_entry("keras3-shared.weights.h5", about, expected(shared, configured=False)))
    with h5py.File(FOLDER / "keras3-shared.weights.h5") as named, h5py.File(FOLDER / "keras3-counted.weights.h5", "w") as f:
        for group in named:
            named.copy(group, f, without_attrs=True)
    about = "the same as Keras 3.0 to 3.5 wrote it: no names; a shared layer counts in each model"
    files.append(file_entry("keras3-counted.weights.h5", about, expected(shared, configured=False, counted=True, again=True)))
    shared.compile("adam", "mse")
    weights = shared.get_weights()
    shared.train_on_batch(np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 3), np.float32))
    shared.set_weights(weights)
    shared.save(FOLDER / "keras3-shared.keras")
    about = "the same as a .keras archive, with the state of an optimizer"
    files.append(file_entry("keras3-shared.keras", about, expected(shared)))
    every = kinds(keras)
    every.save(FOLDER / "keras3-kinds.keras")
    files.append(file_entry("keras3-kinds.keras", "a layer of every class with names of its own", expected(every)))

    keras.config.set_dtype_policy("bfloat16")
    half = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="half")], name="halves")
    fill(half)
    half.save_weights(FOLDER / "keras3-bfloat16.weights.h5")
    entries = [tensor_entry(f"half/{w.name}", np.asarray(w.numpy(), np.float32), "bfloat16") for w in half.weights]
    files.append(file_entry("keras3-bfloat16.weights.h5", "bfloat16, which HDF5 keeps as opaque bytes", entries))
    write_index("keras3", f"Keras {keras.__version__}, h5py {h5py.__version__}", files)


if __name__ == "__main__":
    main()
