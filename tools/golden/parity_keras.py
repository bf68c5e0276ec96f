"""A Keras network for `npm run parity`: python parity_keras.py FIXTURE FOLDER (see parity.py).

Each is saved as .h5, and some of them in Keras 3's layout too, as Keras 2.15 writes it: `.keras`, and `.weights.h5`, in
which layers have no names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from families import load, main_arguments
from keras_nets import forward, keras, set_weights
from parity import batch, write_case

FORMATS = {"archive": "keras", "counted": "weights.h5"}
ALSO = {
    f"{net}-{format}": net
    for format in FORMATS
    for net in ("mobilenet_v2_1.0.keras", "resnet50.keras", "convnext_tiny.keras", "efficientnet_b0.keras")
}


def main(name: str, folder: Path) -> None:
    base = ALSO.get(name, name)
    net, outputs = load("keras")[base](), {}
    file = f"{base}.{FORMATS.get(name.removeprefix(f'{base}-'), 'h5')}"
    for size in net.sizes:
        keras.backend.clear_session()
        model = net.build((size, size, net.channels))
        if size == net.sizes[0]:
            of = set_weights(model)
            (model.save if file.endswith(".keras") else model.save_weights)(folder / file)
            weights = model.get_weights()
        model.set_weights(weights)
        image = batch(size, net.channels)
        outputs[str(size)] = (image, forward(net, model, image))
    write_case(folder, net.backbone, net.source, net.reference, file, of, outputs)


if __name__ == "__main__":
    if arguments := main_arguments(load("keras") | ALSO):
        main(arguments[0], Path(arguments[1]))
