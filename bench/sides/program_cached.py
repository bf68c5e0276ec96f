"""A new head on what a frozen network gives, computed once, as a user of Keras writes it by hand.

`program_cached.py` has the options of program_fit.py. With --augment flip both views of each training picture are
computed, and every epoch shows one of them.
"""

import argparse
import json
import os

import keras
import numpy as np

parser = argparse.ArgumentParser()
for name in ("application", "module", "weights", "data", "out", "augment"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--lr", type=float, required=True)
options = parser.parse_args()

preprocess = getattr(keras.applications, options.module).preprocess_input
base = getattr(keras.applications, options.application)(
    weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3)
)
base.load_weights(options.weights)
base.trainable = False


def features(split: str, views: int):
    """[views, pictures, units] and the labels."""
    pictures = keras.utils.image_dataset_from_directory(
        os.path.join(options.data, split), image_size=(224, 224), batch_size=options.batch, shuffle=False, verbose=False
    )
    classes = len(pictures.class_names)
    labels = np.concatenate([y for _, y in pictures])
    of = [lambda x, y: preprocess(x), lambda x, y: preprocess(x[:, :, ::-1])]
    return np.stack([base.predict(pictures.map(view), verbose=0) for view in of[:views]]), labels, classes


train, labels, classes = features("train", 2 if options.augment == "flip" else 1)
val, val_labels, _ = features("val", 1)
head = keras.Sequential([keras.layers.Input(train.shape[-1:]), keras.layers.Dense(classes)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
head.compile(keras.optimizers.Adam(options.lr), loss=loss, metrics=["accuracy"])
random = np.random.default_rng(0)
given = {"batch_size": options.batch, "validation_data": (val[0], val_labels), "verbose": 0}
if len(train) == 1:
    history = head.fit(train[0], labels, epochs=options.epochs, **given)
else:
    for _ in range(options.epochs):
        view = random.integers(0, 2, len(labels))
        history = head.fit(train[view, np.arange(len(labels))], labels, **given)
model = keras.Model(base.input, head(base.output))
model.save(options.out)
print(json.dumps({"loss": history.history["loss"][-1]}))
