"""Forward fixtures of the torchvision and timm networks: `python forward_torch.py [fixture ...]`."""

from __future__ import annotations

import sys

from families import load
from generator import input_batch
from store import forward_fixture
from torch_nets import forward, set_weights


def main(names: list[str]) -> None:
    nets = {name: make() for name, make in load("torch").items() if not names or name in names}
    for name, net in nets.items():
        if not (names or net.committed):
            continue
        model = net.build()
        of = set_weights(model, net.classifier, row_of=net.row_of)
        cases = [(shape, forward(net, model, input_batch(shape))) for shape in net.cases]
        forward_fixture(net.backbone, net.source, net.reference, of, cases, net.file)


if __name__ == "__main__":
    main(sys.argv[1:])
