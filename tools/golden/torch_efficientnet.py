"""torchvision's and timm's EfficientNets."""

from __future__ import annotations

import timm
import torch
import torchvision

from torch_nets import Net

SIZES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300}


def taps_of(stem, stages, top):
    of = {"stem": stem}
    for s, stage in enumerate(stages, start=1):
        of |= {f"stage{s}.block{n}": block for n, block in enumerate(stage, start=1)}
    return of | {"top": top}


def torchvision_net(name: str) -> Net:
    small = name == "b0"
    return Net(
        f"efficientnet_{name}",
        "torch",
        "torch",
        f"torchvision {torchvision.__version__} efficientnet_{name}, torch {torch.__version__}",
        lambda: getattr(torchvision.models, f"efficientnet_{name}")(),
        lambda model: taps_of(model.features[0], model.features[1:8], model.features[8]),
        "classifier.1",
        committed=small,
        trained=small,
        sizes=(SIZES[name], 193),
        smooth=True,
    )


def timm_net(name: str, model: str, source: str) -> Net:
    return Net(
        f"efficientnet_{name}",
        source,
        "timm",
        f"timm {timm.__version__} {model}, torch {torch.__version__}",
        lambda: timm.create_model(model),
        lambda model: taps_of(model.bn1, model.blocks, model.bn2),
        "classifier",
        sizes=(SIZES[name], 193),
    )


NETS = {f"efficientnet_{name}.torch": lambda name=name: torchvision_net(name) for name in SIZES}
NETS |= {
    f"efficientnet_{name}.timm": lambda name=name: timm_net(name, f"tf_efficientnet_{name}", "timm") for name in SIZES
}
# The same function as torchvision's, under timm's names.
NETS |= {"efficientnet_b0.torch.timm": lambda: timm_net("b0", "efficientnet_b0", "torch")}
