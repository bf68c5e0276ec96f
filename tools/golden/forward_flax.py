"""Forward fixtures of Google's vision transformers in flax: `python forward_flax.py [fixture ...]`."""

from __future__ import annotations

import sys

from families import load
from flax_nets import forward, make_weights, rows
from generator import input_batch
from store import forward_fixture


def main(names: list[str]) -> None:
    nets = {name: make() for name, make in load("flax").items() if not names or name in names}
    for net in nets.values():
        if not (names or net.committed):
            continue
        of = rows(net)
        weights = make_weights(of)
        cases = [(shape, forward(net, weights, input_batch(shape))) for shape in net.cases]
        forward_fixture(net.backbone, net.source, net.reference, of, cases, net.file)


if __name__ == "__main__":
    main(sys.argv[1:])
