"""Forward fixtures of the torchvision and timm networks: `python forward_torch.py [fixture ...]`."""

from __future__ import annotations

import sys

from generator import input_batch
from store import CASES, forward_fixture
from torch_nets import NETS, forward, set_weights


def main(names: list[str]) -> None:
    for name in names or list(NETS):
        net = NETS[name]()
        model = net.build()
        of = set_weights(model, net.classifier)
        cases = [(shape, forward(net, model, input_batch(shape))) for shape in CASES]
        forward_fixture(net.backbone, net.source, net.reference, of, cases, net.file)


if __name__ == "__main__":
    main(sys.argv[1:])
