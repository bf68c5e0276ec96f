"""Transfer learning as a user of Keras writes it: `program_fit.py` with the options below.

Reads DATA/train/<class>/* (and DATA/val), freezes the network but for the layers from --train-from on, trains a new head
and saves the model. Prints the last epoch's loss and the seconds of each epoch as JSON.
"""

import argparse
import json
import os
import time

import keras
import tensorflow as tf

parser = argparse.ArgumentParser()
for name in ("application", "module", "weights", "data", "out", "augment"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--train-from", help="the first layer's name begins with this")
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--lr", type=float, required=True)
options = parser.parse_args()


def pictures(split: str, shuffle: bool):
    return keras.utils.image_dataset_from_directory(
        os.path.join(options.data, split), image_size=(224, 224), batch_size=options.batch, shuffle=shuffle, seed=0, verbose=False
    )


class Seconds(keras.callbacks.Callback):
    """Of each epoch."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


train = pictures("train", True)
classes = len(train.class_names)
val = pictures("val", False) if os.path.isdir(os.path.join(options.data, "val")) else None
preprocess = getattr(keras.applications, options.module).preprocess_input
if options.augment == "flip":
    train = train.map(lambda x, y: (tf.image.random_flip_left_right(x), y), tf.data.AUTOTUNE)
train = train.map(lambda x, y: (preprocess(x), y), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
if val is not None:
    val = val.map(lambda x, y: (preprocess(x), y), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

base = getattr(keras.applications, options.application)(
    weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3)
)
base.load_weights(options.weights)
if options.train_from is None:
    base.trainable = False
    outputs = base(base.input, training=False)
else:
    trained = False
    for layer in base.layers:
        trained = trained or layer.name.startswith(options.train_from)
        layer.trainable = trained
    outputs = base.output
model = keras.Model(base.input, keras.layers.Dense(classes)(outputs))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(options.lr), loss=loss, metrics=["accuracy"])
seconds = Seconds()
history = model.fit(train, validation_data=val, epochs=options.epochs, verbose=0, callbacks=[seconds])
model.save(options.out)
print(json.dumps({"loss": history.history["loss"][-1], "seconds": seconds.seconds}))
