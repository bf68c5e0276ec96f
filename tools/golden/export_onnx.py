"""Runs an exported ONNX model in Python's onnxruntime, after onnx' own full check of the file.

    python3 -m venv VENV && VENV/bin/pip install -r requirements-onnx.txt
    VENV/bin/python export_onnx.py FOLDER INPUT.npy OUTPUT.npy [OUTPUT_NAME]

INPUT: float32 [N, H, W, C], normalised, or uint8 for a model that takes pixels. OUTPUT: float32 [N, classes], the
probabilities, or the output that is named. The last picture is run alone too, and must get the same numbers.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime


def run(folder, pictures, output="probabilities"):
    path = str(pathlib.Path(folder) / "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    labels = json.loads(metadata["labels"])
    (entry,) = session.get_inputs()
    assert entry.shape[1:] == list(pictures.shape[1:]), (entry.shape, pictures.shape)
    assert isinstance(entry.shape[0], str), f"the batch of {entry.shape} is fixed"
    for each in session.get_outputs():
        assert each.shape[1] == len(labels), (each.name, each.shape, len(labels))
    (answers,) = session.run([output], {entry.name: pictures})
    (alone,) = session.run([output], {entry.name: pictures[-1:]})
    spread = np.abs(answers).max()
    assert np.abs(alone[0] - answers[-1]).max() <= 1e-4 * max(1.0, spread), "a picture alone gets other numbers"
    return answers


if __name__ == "__main__":
    folder, source, target, *name = sys.argv[1:]
    np.save(target, run(folder, np.load(source), *name).astype(np.float32))
