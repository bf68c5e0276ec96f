"""A vision transformer in flax for `npm run parity`: python parity_flax.py FIXTURE FOLDER (see parity.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from families import load, main_arguments
from flax_nets import forward, make_weights, rows
from parity import batch, write_case


def main(name: str, folder: Path) -> None:
    net = load("flax")[name]()
    of = rows(net)
    weights = make_weights(of)
    np.savez(folder / f"{name}.npz", **weights)
    outputs = {str(size): (batch(size), forward(net, weights, batch(size))) for size in net.sizes}
    write_case(folder, net.backbone, net.source, net.reference, f"{name}.npz", of, outputs)


if __name__ == "__main__":
    if arguments := main_arguments(load("flax")):
        main(arguments[0], Path(arguments[1]))
