"""What Keras computes from a folder of `tl export --format keras`.

python export_keras.py FOLDER INPUT.npy OUTPUT.npy

FOLDER  holds model.h5
INPUT   float32 [N, H, W, C], normalised; or uint8, for a model exported --with-preprocessing
OUTPUT  probabilities, float32 [N, classes]

Runs in either environment of Keras: Keras 2.15 (`tf`) and Keras 3.8 (`keras3`). With a fourth argument `train` it also
goes on training for one step, and fails unless the head alone has changed.
"""

import json
import sys

import h5py
import keras
import numpy as np


def main(folder, inputs, outputs, train=None):
    path = f"{folder}/model.h5"
    model = keras.models.load_model(path, compile=False)
    pictures = np.load(inputs)
    probabilities = np.asarray(model(pictures.astype("float32"), training=False))
    np.save(outputs, probabilities)
    with h5py.File(path) as file:
        classes = json.loads(file.attrs["class_names"])
        json.loads(file.attrs["preprocessing"])
    assert len(classes) == probabilities.shape[1], (len(classes), probabilities.shape)
    if train == "train":
        go_on(model, pictures.astype("float32"), len(classes))


def go_on(model, pictures, classes):
    before = [[np.array(weight) for weight in layer.get_weights()] for layer in model.layers]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures, np.arange(len(pictures)) % classes, verbose=0)
    for layer, weights in zip(model.layers, before):
        same = all(np.array_equal(a, b) for a, b in zip(weights, layer.get_weights()))
        assert same != (layer.trainable and len(weights) > 0), layer.name


if __name__ == "__main__":
    main(*sys.argv[1:])
