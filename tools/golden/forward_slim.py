"""Forward fixtures of the TF-Slim networks: `python forward_slim.py [fixture ...]`."""

from __future__ import annotations

import sys

from generator import input_batch
from slim_nets import NETS, forward
from store import CASES, forward_fixture


def main(names: list[str]) -> None:
    for name in names or list(NETS):
        net, cases = NETS[name](), []
        for shape in CASES:
            of, values = forward(net, input_batch(shape))
            cases.append((shape, values))
        forward_fixture(net.backbone, "slim", net.reference, of, cases)


if __name__ == "__main__":
    main(sys.argv[1:])
