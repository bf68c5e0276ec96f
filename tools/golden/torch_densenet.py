"""torchvision's DenseNet-121."""

from __future__ import annotations

import torch
import torchvision

from generator import Row, training_row
from torch_nets import Net

DEPTHS = (6, 12, 24, 16)


def densenet_row(r: Row, norm: bool) -> Row:
    """As training_row, but for the stem's norm: all that follows it normalises again, so that its gamma has a gradient
    only by what relu cuts."""
    name, shape, _, _ = r
    stem = {"features.norm0.weight": (1.0, 0.3), "features.norm0.bias": (0.5, 0.3)}.get(name)
    return training_row(r, norm) if stem is None else (name, shape, *stem)


def densenet121() -> Net:
    def taps(model):
        features = model.features
        # A layer here gives its new channels alone; a stage's output is what its transition gets.
        of = {"stem": features.relu0, "stem.pool": features.pool0}
        for s in range(1, 5):
            of[f"stage{s}"] = features.get_submodule(f"denseblock{s}")
            if s < 4:
                of[f"transition{s}"] = features.get_submodule(f"transition{s}")
        return of

    reference = f"torchvision {torchvision.__version__} densenet121, torch {torch.__version__}"
    build = lambda: torchvision.models.densenet121()  # noqa: E731
    return Net(
        "densenet121",
        "torch",
        "torch",
        reference,
        build,
        taps,
        "classifier",
        committed=True,
        trained=True,
        train_input=(8, 32, 64, 3),
        training_row=densenet_row,
    )


NETS = {"densenet121.torch": densenet121}
