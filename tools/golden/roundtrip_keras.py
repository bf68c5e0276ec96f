"""Exported Keras weights in Keras 2 or Keras 3, whichever the environment has (see roundtrip.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from roundtrip import main, network_input, run_lines


def loaded_by_name(model, folder: Path, file: str) -> bool:
    """Whether names alone find every weight; Keras 3 calls some layers of MobileNetV3 otherwise than the file."""
    fresh = keras.models.clone_model(model)
    fresh.load_weights(folder / file, by_name=True)
    return all(np.array_equal(a, b) for a, b in zip(fresh.get_weights(), model.get_weights(), strict=True))


def logits(case: str, folder: Path, image: np.ndarray) -> np.ndarray:
    names = run_lines(folder)
    model = names["model"]
    if "count" not in "".join(w.name for w in model.weights):  # a clone of Normalization needs its state again
        print("by name:", loaded_by_name(model, folder, names["loading"]["file"]), file=sys.stderr)
    return model.predict(network_input(folder, names, image), verbose=0)


if __name__ == "__main__":
    main(logits)
