"""In which order Keras numbers the layers of its networks by class: test/golden/fixtures/keras-positions.json.

A `.weights.h5` of Keras 2.13 to 3.5 has no other names: `layers/conv2d_12` is the thirteenth Conv2D of `model.layers`.
"""

from __future__ import annotations

from families import load
from tiny_models import snake_case
from keras_nets import VERSION, keras
from store import write_json


def positions(model, kind: str = "", owner: str = "") -> dict[str, list[str]]:
    """Class -> the names of its layers that have weights, in Keras' order; those of a Sequential behind its name."""
    found: dict[str, list[str]] = {}
    for layer in model.layers:
        own = kind + snake_case(type(layer).__name__)
        if isinstance(layer, keras.Sequential):
            for inner, names in positions(layer, f"{own}/", f"{owner}{layer.name}/").items():
                found.setdefault(inner, []).extend(names)
        elif layer.weights:
            found.setdefault(own, []).append(owner + layer.name)
    return found


def main() -> None:
    networks: list[dict] = []
    for name, make in sorted(load("keras").items()):
        if name.startswith(("alexnet_v2", "demo_cnn", "googlenet", "resnet")) and name.endswith(".notes"):
            continue  # subclasses, whose layers are attributes
        keras.backend.clear_session()
        net = make()
        layers = positions(net.build((net.sizes[0], net.sizes[0], net.channels)))
        same = next((each for each in networks if each["layers"] == layers), None)
        if same is None:
            networks.append({"of": [name], "layers": layers})
        else:
            same["of"].append(name)
        print(f"  {name}: {sum(map(len, layers.values()))} layers")
    write_json("keras-positions.json", {"writer": f"Keras {VERSION}", "networks": networks})


if __name__ == "__main__":
    main()
