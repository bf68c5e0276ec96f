"""Forward fixtures of the TF-Slim networks: `python forward_slim.py [fixture ...]`."""

from __future__ import annotations

import sys

from families import load
from generator import input_batch
from slim_nets import forward
from store import forward_fixture


def main(names: list[str]) -> None:
    nets = {name: make() for name, make in load("slim").items() if not names or name in names}
    for name, net in nets.items():
        if not (names or net.committed):
            continue
        cases = []
        for shape in net.cases:
            of, values = forward(net, input_batch(shape))
            cases.append((shape, values))
        forward_fixture(net.backbone, "slim", net.reference, of, cases)


if __name__ == "__main__":
    main(sys.argv[1:])
