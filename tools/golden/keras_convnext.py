"""Keras 2's ConvNeXts, without the layer that normalises the picture."""

from __future__ import annotations

from keras_nets import VERSION, Net, keras

DEPTHS = {"tiny": (3, 3, 9, 3), "small": (3, 3, 27, 3)}


def convnext(name: str) -> Net:
    def build(input_shape, include_top=True):
        make = getattr(keras.applications, f"ConvNeXt{name.capitalize()}")
        model = make(
            weights=None,
            input_shape=input_shape,
            include_top=True,
            include_preprocessing=False,
            classifier_activation=None,
        )
        if include_top:
            return model
        return keras.Model(model.input, model.get_layer(taps["pre_logits"]).output, name=model.name)

    taps = {"stem": f"convnext_{name}_stem"}
    additions = iter(["tf.__operators__.add"] + [f"tf.__operators__.add_{i}" for i in range(1, sum(DEPTHS[name]))])
    for stage, depth in enumerate(DEPTHS[name], start=1):
        if stage > 1:
            taps[f"stage{stage}.downsample"] = f"convnext_{name}_downsampling_block_{stage - 2}"
        taps |= {f"stage{stage}.block{n}": next(additions) for n in range(1, depth + 1)}
    taps["pre_logits"] = f"convnext_{name}_head_layernorm"
    reference = f"keras.applications {VERSION} ConvNeXt{name.capitalize()}, without its preprocessing"
    return Net(f"convnext_{name}", "keras", reference, build, taps, committed=name == "tiny", smooth=True)


NETS = {f"convnext_{name}.keras": lambda name=name: convnext(name) for name in DEPTHS}
