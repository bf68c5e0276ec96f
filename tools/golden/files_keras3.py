"""Reader fixtures written by Keras 3: test/golden/fixtures/files/, with keras3.json."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
from keras.src.legacy.saving import legacy_h5_format

from tiny import FOLDER, file_entry, h5_tensors, model, tensor_entry, write_index


def new_layout_tensors(path) -> list[dict]:
    """The tensors of a `.weights.h5`: no names, only numbering per class."""
    entries = []
    with h5py.File(path) as f:
        f.visititems(lambda name, at: entries.append(tensor_entry(name, at[()])) if isinstance(at, h5py.Dataset) else None)
    return entries


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
    about = "save_weights: Keras 3's own layout, without layer names"
    files.append(file_entry("keras3.weights.h5", about, new_layout_tensors(FOLDER / "keras3.weights.h5")))
    write_index("keras3", f"Keras {keras.__version__}, h5py {h5py.__version__}", files)


if __name__ == "__main__":
    main()
