"""Probabilities of an exported SavedModel, by TensorFlow in Python.

    python export_saved_model.py FOLDER INPUT.npy OUTPUT.npy

INPUT: float32 [N, H, W, C], normalised, or uint8 for a model that takes pixels. Runs with TensorFlow 2.15 and later (the
environments `tf` and `keras3`). The model is loaded in each of the ways that there are: as TensorFlow 2 does, whose
numbers are written, and in a session as TensorFlow 1 and TensorFlow Serving do; the two must agree. The labels are
asked for as well, and compared with those of export.json.
"""

import json
import os
import re
import sys

import numpy as np
import tensorflow as tf

SAME = 1e-5  # of two sessions of one library


def main(folder, input_file, output_file):
    x = np.load(input_file)
    model = tf.saved_model.load(folder)
    serving = model.signatures["serving_default"]
    answer = {key: value.numpy() for key, value in serving(input=tf.constant(x)).items()}
    probabilities = answer["probabilities"]
    assert sorted(answer) == ["logits", "probabilities"], sorted(answer)
    assert np.allclose(probabilities, tf.nn.softmax(answer["logits"]).numpy(), atol=SAME)

    classify = model.signatures["classify"](input=tf.constant(x))
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, : classify["labels"].shape[1]]
    assert np.allclose(classify["probabilities"].numpy(), np.take_along_axis(probabilities, top, 1), atol=SAME)
    with open(os.path.join(folder, "export.json"), encoding="utf-8") as file:
        classes = json.load(file)["classes"]
    best = [label.decode("utf-8") for label in classify["labels"].numpy()[:, 0]]
    assert best == [classes[i] for i in top[:, 0]], (best, classes, top)

    (asset,) = model.asset_paths
    with open(asset.asset_path.numpy(), encoding="utf-8") as file:
        labels = file.read().split("\n")[:-1]
    assert labels == [re.sub(r"\s+", " ", name) for name in classes], labels

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        signature = meta.signature_def["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        fetched = session.run(signature.outputs["probabilities"].name, {signature.inputs["input"].name: x})
    assert np.allclose(probabilities, fetched, atol=SAME), np.abs(probabilities - fetched).max()
    np.save(output_file, probabilities)


main(*sys.argv[1:])
