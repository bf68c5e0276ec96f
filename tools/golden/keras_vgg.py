"""VGG: keras.applications' 16 and 19, with and without their dense layers, and all four as a tutorial builds them."""

from __future__ import annotations

from keras_alexnet import training_row
from keras_nets import VERSION, Net, keras, layers

DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
FILTERS = (64, 128, 256, 512, 512)
SIZES = (224, 241)
"""Two that give a grid of 7x7."""


def published(name: str, top: bool) -> Net:
    make = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[name]

    def build(input_shape, include_top=True):
        if top:
            # At its published size only; its layers fit any picture that gives the same grid.
            whole = make(weights=None, classifier_activation=None)
            if tuple(input_shape) == (224, 224, 3):
                return whole
            image = keras.Input(input_shape)
            x = image
            for layer in whole.layers[1:]:
                x = layer(x)
            return keras.Model(image, x, name=name)
        body = make(weights=None, include_top=False, input_shape=input_shape, pooling="avg")
        # The published file ends here; a classifier on the average makes it comparable to the end.
        y = layers.Dense(1000, name="predictions")(body.output) if include_top else body.output
        return keras.Model(body.input, y, name=name)

    taps = {f"stage{s}": f"block{s}_pool" for s in range(1, 6)}
    if top:
        taps |= {"fc1": "fc1", "fc2": "fc2", "pre_logits": "fc2"}
    source = "keras" if top else "keras_notop"
    reference = f"keras.applications {VERSION} {make.__name__}" + ("" if top else "(include_top=False, pooling='avg')")
    return Net(
        name,
        source,
        reference,
        build,
        taps,
        committed=top and name == "vgg16",
        trained=not top and name == "vgg16",
        cases=[(1, 224, 224, 3)],
        sizes=SIZES if top else (224, 193),
        train_input=(4, 32, 32, 3),
        training_row=training_row,
    )


def notes(name: str) -> Net:
    def stack():
        for filters, depth in zip(FILTERS, DEPTHS[name]):
            for _ in range(depth):
                yield layers.Conv2D(filters, 3, padding="SAME", activation="relu")
            yield layers.MaxPool2D(2, strides=2)

    def build(input_shape, include_top=True):
        image = keras.Input(input_shape)
        x = keras.Sequential(list(stack()), name="feature")(image)
        x = layers.Dropout(0.5)(layers.Flatten()(x))
        x = layers.Dropout(0.5)(layers.Dense(4096, activation="relu")(x))
        x = layers.Dense(4096, activation="relu")(x)
        return keras.Model(image, layers.Dense(1000)(x) if include_top else x)

    def taps(model, image):
        of, x = {}, image
        for layer in model.get_layer("feature").layers:
            x = layer(x)
            if isinstance(layer, layers.MaxPool2D):
                of[f"stage{len(of) + 1}"] = x
        of["fc1"] = model.get_layer("dense")(layers.Flatten()(x))
        of["fc2"] = model.get_layer("dense_1")(of["fc1"])
        return of | {"pre_logits": of["fc2"]}

    reference = f"Keras {VERSION} layers, {name} of the tutorial"
    return Net(name, "notes", reference, build, taps, cases=[(1, 224, 224, 3)], sizes=SIZES)


NETS = {f"{name}.keras": lambda name=name: published(name, top=True) for name in ("vgg16", "vgg19")}
NETS |= {f"{name}.keras_notop": lambda name=name: published(name, top=False) for name in ("vgg16", "vgg19")}
NETS |= {f"{name}.notes": lambda name=name: notes(name) for name in DEPTHS}
