"""A Keras network for `npm run parity`: python parity_keras.py FIXTURE FOLDER (see parity.py)."""

from __future__ import annotations

import sys
from pathlib import Path

from keras_nets import NETS, forward, keras, set_weights
from parity import SIZES, batch, write_case


def main(name: str, folder: Path) -> None:
    net, outputs = NETS[name](), {}
    file = f"{name}.h5"
    for size in SIZES:
        keras.backend.clear_session()
        model = net.build((size, size, 3))
        of = set_weights(model)
        if size == SIZES[0]:
            model.save_weights(folder / file)
        outputs[str(size)] = (batch(size), forward(net, model, batch(size)))
    write_case(folder, net.backbone, net.source, net.reference, file, of, outputs)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
