"""Models for the reader fixtures of Keras 2 and 3, and what a reader has to find in their files.

`expected` lists the variables as the models in memory have them, so it does not depend on how they were written.
"""

from __future__ import annotations

import numpy as np

from generator import tensor
from tiny import tensor_entry


def fill(model) -> None:
    """Gives every variable numbers of its own, by its place."""
    model.set_weights([tensor(f"{model.name}/{i}", w.shape, 0.5, 0.5) for i, w in enumerate(model.get_weights())])


def deep(keras, unique: bool):
    """Models in models in a Sequential, which ends in the head of the notes' training script.

    One layer is shared by three models, and three layers have one name; `unique`: neither, since Keras 2 cannot write
    such a model as .h5. Keras 3 saves `* 2.0` and `+ 1.0` as operations, which are no layers.
    """
    layers = keras.layers
    names = iter("abc")
    common = layers.Conv2D(3, 1, name="common")

    def shared(x):
        return layers.Conv2D(3, 1, name=f"common_{next(names)}")(x) if unique else common(x)

    def inner(name, kernel):
        image = layers.Input((8, 8, 3))
        own = layers.Conv2D(2, kernel, padding="same", use_bias=False, name=f"own_{name}" if unique else "own")
        return keras.Model(image, own(shared(image)), name=name)

    image = layers.Input((8, 8, 3), name="image")
    first, second = inner("first", 1)(image), inner("second", 3)(image)
    x = layers.Concatenate(name="joined")([first, second, shared(image) * 2.0 + 1.0])
    x = layers.BatchNormalization(scale=False, name="norm")(x)
    x = layers.Conv2D(5, 1, name="own")(x)
    body = keras.Model(image, x, name="body")
    head = [
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.5),
        layers.Dense(4, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(3),
        layers.Softmax(),
    ]
    whole = keras.Sequential([keras.Input((8, 8, 3)), body, *head], name="whole")
    fill(whole)
    return whole


def kinds(keras):
    """A layer of every class whose variables have other names than kernel and bias."""
    layers = keras.layers
    image = layers.Input((6, 6, 4), name="image")
    normalization = layers.Normalization(name="pixels")
    normalization.adapt(np.arange(288, dtype=np.float32).reshape(2, 6, 6, 4))
    x = normalization(image)
    x = layers.SeparableConv2D(4, 3, name="separable")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.BatchNormalization(center=False, name="norm_without_beta")(x)
    x = layers.GroupNormalization(2, name="groups")(x)
    x = layers.PReLU(name="leaky")(x)
    x = layers.Reshape((4, 4), name="tokens")(x)
    x = layers.LayerNormalization(center=False, name="scaled")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.EinsumDense("abc,cd->abd", output_shape=(4, 5), name="einsum")(x)
    x = layers.TimeDistributed(layers.Dense(2, use_bias=False, name="each"), name="times")(x)
    word = layers.Input((3,), name="word")
    y = layers.Embedding(5, 2, name="words")(word)
    model = keras.Model([image, word], layers.Concatenate(axis=1, name="both")([x, y]), name="kinds")
    fill(model)
    return model


def expected(model, configured: bool = True, counted: bool = False, again: bool = False) -> list[dict]:
    """Every variable once, as `<layer>/<leaf>`.

    Not `configured`: without the model's configuration three variables of a batch norm keep their numbers, since the
    first is gamma or beta. `counted`: layers by class and number, as a file without names has them. `again`: a layer
    that was met in another model is counted there too, as Keras 3 does and Keras 2 does not.
    """
    entries, seen = [], set()

    def visit(layer, prefix: str) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        inner = getattr(layer, "layers", None)
        if inner:
            numbers: dict[str, int] = {}
            for each in inner:
                kind = snake_case(type(each).__name__)
                if id(each) in seen and not again:
                    continue
                number = numbers[kind] = numbers.get(kind, -1) + 1
                name = (kind if number == 0 else f"{kind}_{number}") if counted else each.name
                visit(each, f"{prefix}{name}/")
            return
        variables = list(layer.weights)
        held = getattr(layer, "layer", None)  # what a TimeDistributed repeats
        numbered = not configured and len(variables) == 3 and type(layer).__name__ == "BatchNormalization"
        for i, variable in enumerate(variables):
            name = getattr(variable, "path", variable.name).removesuffix(":0")
            leaf = name.split(f"{layer.name}/", 1)[-1]
            if type(layer).__name__.startswith(("Depthwise", "Separable")) and leaf == "kernel":
                leaf = "depthwise_kernel"  # as Keras 2 calls it
            if held is not None:
                leaf = f"{held.name}/{leaf.rsplit('/', 1)[-1]}"
            if numbered:
                leaf = f"vars/{i}"
            entries.append(tensor_entry(prefix + leaf, np.asarray(variable.numpy())))

    visit(model, "")
    return entries


def snake_case(name: str) -> str:
    import re

    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
