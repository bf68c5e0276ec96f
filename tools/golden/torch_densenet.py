"""torchvision's DenseNet-121."""

from __future__ import annotations

import torch
import torchvision

from torch_nets import Net

DEPTHS = (6, 12, 24, 16)


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
    return Net("densenet121", "torch", "torch", reference, build, taps, "classifier", committed=True)


NETS = {"densenet121.torch": densenet121}
