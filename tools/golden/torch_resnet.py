"""torchvision's and timm's ResNet and ResNeXt."""

from __future__ import annotations

from typing import Callable

import timm
import torch
import torchvision

from torch_nets import Net


def taps(model) -> dict[str, torch.nn.Module]:
    of = {"stem": getattr(model, "relu", None) or model.act1, "stem.pool": model.maxpool}
    for s in range(1, 5):
        for b, block in enumerate(getattr(model, f"layer{s}"), start=1):
            of[f"stage{s}.block{b}"] = block
    return of


def of_torchvision(name: str, **more) -> Net:
    reference = f"torchvision {torchvision.__version__} {name}, torch {torch.__version__}"
    return Net(name, "torch", "torch", reference, getattr(torchvision.models, name), taps, "fc", **more)


def of_timm(name: str, file: str) -> Net:
    reference = f"timm {timm.__version__} {name}, torch {torch.__version__}"
    return Net(name, "torch", file, reference, lambda: timm.create_model(name), taps, "fc")


NETS: dict[str, Callable[[], Net]] = {
    "resnet18.torch": lambda: of_torchvision("resnet18", committed=True),
    "resnet34.torch": lambda: of_torchvision("resnet34"),
    "resnet50.torch": lambda: of_torchvision("resnet50", committed=True, trained=True),
    "resnet101.torch": lambda: of_torchvision("resnet101"),
    "resnet152.torch": lambda: of_torchvision("resnet152"),
    "resnext50_32x4d.torch": lambda: of_torchvision("resnext50_32x4d", committed=True, trained=True),
    "resnext50_32x4d.timm": lambda: of_timm("resnext50_32x4d", "timm"),
    "resnext101_32x4d.torch": lambda: of_timm("resnext101_32x4d", "torch"),
    "resnext101_32x8d.torch": lambda: of_torchvision("resnext101_32x8d"),
}
