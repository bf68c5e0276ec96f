"""The rows of a network's generated weights: `rows.py` reads a network (JSON) and writes {"body": [...], "head": [...]}.

A row is a tensor's published name, shape and distribution, from which every side generates the same numbers
(tools/golden/generator.py). Networks of Keras have their names from Keras 2, in the model's own order; those of PyTorch
from the state dict, without the published classifier. The head is the same for all, a kernel of [units, classes] and
its bias. Runs in the environment that publishes the network: `tf` or `torch`.
"""

from __future__ import annotations

from generator import row
from side import read_task, tell


def keras_rows(of: dict, training: bool) -> tuple[list, int]:
    from keras_nets import keras, set_weights

    application = getattr(keras.applications, of["reference"])
    model = application(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    return set_weights(model, training=training), model.output_shape[-1]


def torch_rows(of: dict, training: bool) -> tuple[list, int]:
    import torch

    from families import load
    from torch_nets import set_weights

    net = load("torch")[of["reference"]]()
    model = net.build()
    owner, _, leaf = net.classifier.rpartition(".")
    units = model.get_submodule(net.classifier).in_features
    setattr(model.get_submodule(owner), leaf, torch.nn.Identity())
    keep_from_kinks = net.training_row if training and not net.smooth else None
    return set_weights(model, "", training=keep_from_kinks, row_of=net.row_of), units


if __name__ == "__main__":
    task = read_task()
    of = task["network"]
    body, units = (keras_rows if of["source"] == "keras" else torch_rows)(of, task["training"])
    shape = [units, task["classes"]]
    tell({"body": body, "head": [row("head/kernel", shape, "classifier"), row("head/bias", shape[1:], "bias")]})
