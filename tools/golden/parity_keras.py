"""A Keras network for `npm run parity`: python parity_keras.py FIXTURE FOLDER (see parity.py)."""

from __future__ import annotations

import sys
from pathlib import Path

from families import load, main_arguments
from keras_nets import forward, keras, set_weights
from parity import batch, write_case


def main(name: str, folder: Path) -> None:
    net, outputs = load("keras")[name](), {}
    file = f"{name}.h5"
    for size in net.sizes:
        keras.backend.clear_session()
        model = net.build((size, size, net.channels))
        if size == net.sizes[0]:
            of = set_weights(model)
            model.save_weights(folder / file)
            weights = model.get_weights()
        model.set_weights(weights)
        image = batch(size, net.channels)
        outputs[str(size)] = (image, forward(net, model, image))
    write_case(folder, net.backbone, net.source, net.reference, file, of, outputs)


if __name__ == "__main__":
    if arguments := main_arguments(load("keras")):
        main(arguments[0], Path(arguments[1]))
