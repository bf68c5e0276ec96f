"""Forward fixtures of the Keras networks: `python forward_keras.py [fixture ...]`."""

from __future__ import annotations

import sys

from generator import input_batch
from keras_nets import NETS, forward, keras, set_weights
from store import CASES, forward_fixture


def main(names: list[str]) -> None:
    for name in names or list(NETS):
        net, cases, of = NETS[name](), [], []
        for shape in CASES:
            keras.backend.clear_session()
            model = net.build(shape[1:])
            of = set_weights(model)
            cases.append((shape, forward(net, model, input_batch(shape))))
        forward_fixture(net.backbone, net.source, net.reference, of, cases)


if __name__ == "__main__":
    main(sys.argv[1:])
