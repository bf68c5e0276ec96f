"""Runs an exported TensorFlow Lite model in Python's LiteRT, or in TensorFlow's own interpreter.

    python3 -m venv VENV && VENV/bin/pip install ai-edge-litert==2.3.0 numpy==2.4.6
    VENV/bin/python export_tflite.py FOLDER INPUT.npy OUTPUT.npy [OUTPUT_NAME]

INPUT: float32 [N, H, W, C], normalised, or uint8 for a model that takes pixels. OUTPUT: float32 [N, classes], the
probabilities, or the output that is named. In an environment without ai-edge-litert, TensorFlow's interpreter runs it.
The last picture is run alone too, after the interpreter was resized for it, and must get the same numbers.
"""

import json
import pathlib
import sys
import zipfile

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    import tensorflow

    Interpreter = tensorflow.lite.Interpreter


def run(folder, pictures, output="probabilities"):
    folder = pathlib.Path(folder)
    path = folder / "model.tflite"
    labels = zipfile.ZipFile(path).read("labels.txt").decode().splitlines()
    interpreter = Interpreter(str(path))
    signature = interpreter.get_signature_list()["serving_default"]
    assert signature["inputs"] == ["input"] and output in signature["outputs"], signature
    (entry,) = interpreter.get_input_details()
    assert list(entry["shape_signature"]) == [-1, *pictures.shape[1:]], (entry["shape_signature"], pictures.shape)
    assert entry["dtype"] == pictures.dtype, (entry["dtype"], pictures.dtype)

    def answers(batch):
        interpreter.resize_tensor_input(entry["index"], batch.shape)
        result = interpreter.get_signature_runner("serving_default")(input=batch)[output]
        assert result.shape == (len(batch), len(labels)), (result.shape, len(labels))
        return result

    together = answers(pictures)
    alone = answers(pictures[-1:])[0]
    record = folder / "export.json"
    rounded = json.loads(record.read_text())["quantize"] == "int8" if record.exists() else False
    bound = (1e-1 if rounded else 1e-4) * max(1.0, np.abs(together).max())
    assert np.abs(alone - together[-1]).max() <= bound, "a picture alone gets other numbers"
    return together


if __name__ == "__main__":
    folder, source, target, *name = sys.argv[1:]
    np.save(target, run(folder, np.load(source), *name).astype(np.float32))
