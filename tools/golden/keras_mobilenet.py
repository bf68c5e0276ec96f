"""Keras 2's MobileNets; v3 from behind its rescaling of the picture."""

from __future__ import annotations

import re
from typing import Callable

from generator import Row
from keras_nets import VERSION, Net, keras, layers


def mobilenet_v1(alpha: str, **more) -> Net:
    def build(input_shape, include_top=True):
        return keras.applications.MobileNet(
            weights=None, input_shape=input_shape, alpha=float(alpha), include_top=include_top, classifier_activation=None
        )

    taps = {"stem": "conv1_relu"} | {f"block{i}": f"conv_pw_{i}_relu" for i in range(1, 14)}
    reference = f"keras.applications {VERSION} MobileNet(alpha={alpha})"
    return Net(f"mobilenet_v1_{alpha}", "keras", reference, build, taps, **more)


def mobilenet_v2(alpha: str, **more) -> Net:
    def build(input_shape, include_top=True):
        return keras.applications.MobileNetV2(
            weights=None, input_shape=input_shape, alpha=float(alpha), include_top=include_top, classifier_activation=None
        )

    taps = {"stem": "Conv1_relu", "block0": "expanded_conv_project_BN"}
    # Table 2 of Sandler 2018: the first block of every group changes channels or stride and has no addition.
    first = {1, 3, 6, 10, 13, 16}
    taps |= {f"block{i}": f"block_{i}_{'project_BN' if i in first else 'add'}" for i in range(1, 17)}
    taps |= {"top": "out_relu"}
    reference = f"keras.applications {VERSION} MobileNetV2(alpha={alpha})"
    return Net(f"mobilenet_v2_{alpha}", "keras", reference, build, taps, **more)


def v3_training_row(r: Row) -> Row:
    """A tensor of v3-small in the training fixture: away from relu's kink at 0 and hard-swish's at -3 and 3."""
    name, shape, center, scale = r
    owner, leaf = name.rsplit("/", 1)
    relu = re.match(r"expanded_conv(_[12])?/(expand|depthwise)/", name) is not None  # Howard 2019, table 2
    if leaf == "gamma":
        center, scale = (0.6, 0.2) if relu else (0.4, 0.1)
    elif leaf == "beta":
        center, scale = (2.0, 1.0) if relu else (0.0, 0.8)
    elif owner.endswith("squeeze_excite/Conv"):  # before relu
        center, scale = (4.0, 1.0) if leaf == "bias" else (0.0, 0.25 * scale)
    elif owner.endswith("squeeze_excite/Conv_1"):  # before a hard sigmoid
        center, scale = (0.0, 1.5) if leaf == "bias" else (0.0, 0.1 * scale)
    elif owner == "Conv_2":  # before hard-swish
        center, scale = (0.0, 1.0) if leaf == "bias" else (0.0, 0.75 * scale)
    return name, shape, center, float(f"{scale:.7g}")


def mobilenet_v3(size: str, variant: str, top: bool = True, **more) -> Net:
    minimalistic = variant == "minimalistic"
    settings = {"minimalistic": True} if minimalistic else {"alpha": float(variant)}
    make = getattr(keras.applications, f"MobileNetV3{size.capitalize()}")

    def build(input_shape, include_top=True):
        common = {"weights": None, "input_shape": input_shape, "include_preprocessing": False, **settings}
        if not top:
            body = make(include_top=False, pooling="avg", **common)
            # The published file ends here; a classifier on the average makes it comparable to the end.
            return keras.Model(body.input, layers.Dense(1000, name="Logits")(body.output), name=body.name)
        model = make(classifier_activation=None, **common)
        # Without its classifier, the network here still has the hidden layer before it.
        return model if include_top else keras.Model(model.input, hidden(model), name=model.name)

    def hidden(model):
        (dropout,) = [at for at in model.layers if isinstance(at, layers.Dropout)]
        return dropout.input

    def taps(model, image):
        names = {at.name for at in model.layers}
        of = {"stem": model.get_layer("expanded_conv/depthwise" + ("/pad" if size == "small" else "")).input}
        for i in range({"large": 15, "small": 11}[size]):
            at = f"expanded_conv{f'_{i}' if i else ''}"
            of[f"block{i}"] = model.get_layer(f"{at}/Add" if f"{at}/Add" in names else f"{at}/project/BatchNorm").output
        pools = [at for at in model.layers if isinstance(at, layers.GlobalAveragePooling2D)]
        of |= {"top": pools[-1].input, "pre_logits": hidden(model) if top else pools[-1].output}
        return keras.Model(model.input, of)(image, training=False)

    arguments = ", ".join(f"{key}={value}" for key, value in settings.items())
    reference = f"keras.applications {VERSION} MobileNetV3{size.capitalize()}({arguments}), without its preprocessing"
    if not top:
        reference += ", include_top=False, pooling='avg'"
    return Net(f"mobilenet_v3_{size}_{variant}", "keras" if top else "keras_notop", reference, build, taps, **more)


NETS: dict[str, Callable[[], Net]] = {
    f"mobilenet_v1_{alpha}.keras": lambda alpha=alpha: mobilenet_v1(
        alpha, committed=alpha in ("1.0", "0.25"), trained=alpha == "0.25"
    )
    for alpha in ("1.0", "0.75", "0.5", "0.25")
}
NETS |= {
    f"mobilenet_v2_{alpha}.keras": lambda alpha=alpha: mobilenet_v2(
        alpha, committed=alpha in ("1.0", "1.4", "0.35"), trained=alpha == "0.35"
    )
    for alpha in ("1.4", "1.3", "1.0", "0.75", "0.5", "0.35")
}
NETS |= {
    f"mobilenet_v3_{size}_{variant}.keras": lambda size=size, variant=variant: mobilenet_v3(
        size,
        variant,
        committed=(size, variant) in (("large", "1.0"), ("small", "1.0"), ("small", "minimalistic")),
        trained=(size, variant) == ("small", "1.0"),
        training_row=v3_training_row,
    )
    for size in ("large", "small")
    for variant in ("1.0", "0.75", "minimalistic")
}
NETS |= {
    f"mobilenet_v3_{size}_{variant}.keras_notop": lambda size=size, variant=variant: mobilenet_v3(size, variant, top=False)
    for size in ("large", "small")
    for variant in ("1.0", "0.75", "minimalistic")
}
