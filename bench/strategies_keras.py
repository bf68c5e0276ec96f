"""The reference's half of `bench/strategies.mjs`: keras.applications.MobileNet on photographs, by Keras alone.

Reads a task (JSON) from standard input: `weights` (the `.weights.h5` of strategies_weights.py), `pictures` (paths),
`inputSize`, `threads`, and either `features`, a file that gets the pre_logits of all pictures, float32
[2, pictures, 1024], plain and mirrored; or `runs` and `results`, a file to which a line of JSON is added after each run.
A run is `key`, `manifest` (path,label,split), `cut` (the layer that ends the frozen part, or `pre_logits`; `null` where
nothing is frozen), `training` (whether batch norms go by the batch), `epochs`, `batchSize`, `lr` and `seed`; and
where the draws are given, `draws`: the head's `kernel` and, for each epoch, the `order` of the training pictures in the
manifest and which of those are `mirrored`. What is frozen is computed once, plain and mirrored.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import time

import keras
import numpy as np
import tensorflow as tf

BATCH = 32


def views(task: dict) -> list[np.ndarray]:
    """All pictures as the network takes them, [pictures, height, width, 3], plain and mirrored."""
    side = task["inputSize"]
    pictures = []
    for path in task["pictures"]:
        # as Pillow, and so keras.utils.load_img, decodes; TensorFlow's default takes a faster DCT that is less exact
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
        resized = tf.image.resize(pixels, [side, side], method="bilinear")  # as image_dataset_from_directory
        pictures.append(keras.applications.mobilenet.preprocess_input(resized.numpy()))
    plain = np.stack(pictures)
    return [plain, np.ascontiguousarray(plain[:, :, ::-1])]


def network(task: dict) -> keras.Model:
    """Up to the pooled pre_logits. The file has the classifier too, so it is loaded into the whole network."""
    side = task["inputSize"]
    whole = keras.applications.MobileNet(input_shape=(side, side, 3), weights=None)
    whole.load_weights(task["weights"])
    base = keras.applications.MobileNet(input_shape=(side, side, 3), weights=None, include_top=False, pooling="avg")
    for layer in base.layers:
        layer.set_weights(whole.get_layer(layer.name).get_weights() if layer.weights else [])
    return base


def tensor(base: keras.Model, cut: str | None) -> keras.KerasTensor:
    """Where the trained part begins."""
    if cut is None:
        return base.input
    return base.output if cut == "pre_logits" else base.get_layer(cut).output


class WithHead(keras.Model):
    """A trained part and a head. A functional model over the two would not do: in `fit`, Keras 3.8 gives its layers
    training=True, whatever they were called with, and batch norms would never stay in inference mode."""

    def __init__(self, trained: keras.Model | None, head: keras.layers.Dense, run: dict) -> None:
        super().__init__()
        self.trained, self.head, self.by_batch = trained, head, run["training"]

    def call(self, x, training=None):
        if self.trained is not None:
            x = self.trained(x, training=bool(training) and self.by_batch)
        return self.head(x)


def train(run: dict, inputs: list[np.ndarray], base: keras.Model, start: list[np.ndarray], index: dict) -> dict:
    began = time.perf_counter()
    keras.utils.set_random_seed(run["seed"])
    generator = np.random.default_rng(run["seed"])
    rows = list(csv.DictReader(open(run["manifest"], encoding="utf-8")))
    classes = sorted({row["label"] for row in rows})
    part = {
        split: np.array([(index[r["path"]], classes.index(r["label"])) for r in rows if r["split"] == split]).T
        for split in ("train", "val")
    }
    pictures, labels = part["train"]

    base.set_weights(start)  # an earlier run has changed them
    head = keras.layers.Dense(len(classes))
    model = WithHead(None if run["cut"] == "pre_logits" else keras.Model(tensor(base, run["cut"]), base.output), head, run)
    head.build(base.output.shape)
    total = run["epochs"] * math.ceil(len(pictures) / run["batchSize"])
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(run["lr"], total)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    draws = run.get("draws")
    if draws is not None:
        head.set_weights([np.array(draws["kernel"], np.float32).reshape(head.kernel.shape), np.zeros(len(classes))])
    both = np.stack(inputs)
    for epoch in range(run["epochs"]):
        if draws is not None:
            order, mirrored = (np.array(draws[name][epoch]) for name in ("order", "mirrored"))
        else:
            order = generator.permutation(len(pictures))
            mirrored = generator.integers(0, 2, len(pictures))  # each picture is mirrored in every second epoch or so
        x = both[mirrored, pictures[order]]
        fit = model.fit(x, labels[order], batch_size=run["batchSize"], shuffle=False, verbose=0)
    loss, accuracy = model.evaluate(inputs[0][part["val"][0]], part["val"][1], batch_size=BATCH, verbose=0)
    return {
        "key": run["key"],
        **{"accuracy": accuracy, "loss": loss, "trainLoss": fit.history["loss"][-1]},
        **{"trained": int(sum(np.prod(w.shape) for w in model.trainable_weights)), "steps": total},
        "seconds": time.perf_counter() - began,
    }


def main(task: dict) -> dict:
    tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
    version = f"Keras {keras.__version__}, TensorFlow {tf.__version__}"
    base, pixels = network(task), views(task)
    if "features" in task:
        found = np.stack([base.predict(view, batch_size=BATCH, verbose=0) for view in pixels]).astype("<f4")
        found.tofile(task["features"])
        return {"version": version, "shape": found.shape}
    start = base.get_weights()
    index = {path: i for i, path in enumerate(task["pictures"])}
    kept: dict[str | None, list[np.ndarray]] = {None: pixels}
    for run in task["runs"]:
        cut = run["cut"]
        if cut not in kept:
            base.set_weights(start)
            frozen = keras.Model(base.input, tensor(base, cut))
            kept[cut] = [frozen.predict(view, batch_size=BATCH, verbose=0) for view in pixels]
        result = train(run, kept[cut], base, start, index)
        with open(task["results"], "a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{run['key']}: {result['accuracy']:.3f}, {result['seconds']:.0f} s", file=sys.stderr)
    return {"version": version}


if __name__ == "__main__":
    result = main(json.load(sys.stdin))
    print()
    print(json.dumps(result))
