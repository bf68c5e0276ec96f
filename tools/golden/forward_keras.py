"""Forward fixtures of the Keras networks: `python forward_keras.py [fixture ...]`."""

from __future__ import annotations

import sys

from families import load
from generator import input_batch
from keras_nets import forward, keras, set_weights
from store import forward_fixture


def main(names: list[str]) -> None:
    nets = {name: make() for name, make in load("keras").items() if not names or name in names}
    for name, net in nets.items():
        if not (names or net.committed):
            continue
        cases, of = [], []
        for shape in net.cases:
            keras.backend.clear_session()
            model = net.build(shape[1:])
            of = set_weights(model)
            cases.append((shape, forward(net, model, input_batch(shape))))
        forward_fixture(net.backbone, net.source, net.reference, of, cases)


if __name__ == "__main__":
    main(sys.argv[1:])
