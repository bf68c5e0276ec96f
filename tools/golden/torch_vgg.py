"""torchvision's VGGs, with and without batch normalisation."""

from __future__ import annotations

import torch
import torchvision

from torch_nets import Net


def vgg(name: str) -> Net:
    def taps(model):
        pools = [at for at in model.features if isinstance(at, torch.nn.MaxPool2d)]
        of = {f"stage{s}": pool for s, pool in enumerate(pools, start=1)}
        return of | {"fc1": model.classifier[1], "fc2": model.classifier[4]}

    reference = f"torchvision {torchvision.__version__} {name}, torch {torch.__version__}"
    build = getattr(torchvision.models, name)
    return Net(name, "torch", "torch", reference, build, taps, "classifier.6", committed=name == "vgg11_bn")


NETS = {f"{name}.torch": lambda name=name: vgg(name) for n in (11, 13, 16, 19) for name in (f"vgg{n}", f"vgg{n}_bn")}
