"""torchvision's and timm's ConvNeXts."""

from __future__ import annotations

import timm
import torch
import torchvision

from torch_nets import Net


def taps_of(stem, stages, downsamples):
    of = {"stem": stem}
    for s, (stage, downsample) in enumerate(zip(stages, downsamples, strict=True), start=1):
        if s > 1:
            of[f"stage{s}.downsample"] = downsample
        of |= {f"stage{s}.block{n}": block for n, block in enumerate(stage, start=1)}
    return of


def torchvision_net(name: str) -> Net:
    def taps(model):
        features = model.features
        return taps_of(features[0], features[1::2], [None, *features[2::2]])

    small = name == "tiny"
    return Net(
        f"convnext_{name}",
        "torch",
        "torch",
        f"torchvision {torchvision.__version__} convnext_{name}, torch {torch.__version__}",
        lambda: getattr(torchvision.models, f"convnext_{name}")(),
        taps,
        "classifier.2",
        committed=small,
        trained=small,
        smooth=True,
    )


def timm_net(name: str) -> Net:
    def taps(model):
        return taps_of(model.stem, [s.blocks for s in model.stages], [s.downsample for s in model.stages])

    return Net(
        f"convnext_{name}",
        "torch",
        "timm",
        f"timm {timm.__version__} convnext_{name}, torch {torch.__version__}",
        lambda: timm.create_model(f"convnext_{name}"),
        taps,
        "head.fc",
    )


NETS = {f"convnext_{name}.torch": lambda name=name: torchvision_net(name) for name in ("tiny", "small")}
NETS |= {f"convnext_{name}.timm": lambda name=name: timm_net(name) for name in ("tiny", "small")}
