"""torchvision's AlexNet."""

from __future__ import annotations

import torch
import torchvision

from torch_nets import Net


def alexnet() -> Net:
    def taps(model):
        places = {"conv1": 2, "conv2": 5, "conv3": 7, "conv4": 9, "conv5": 12}
        return {tap: model.features[place] for tap, place in places.items()} | {"fc1": model.classifier[2]}

    reference = f"torchvision {torchvision.__version__} alexnet, torch {torch.__version__}"
    cases = [(2, 64, 64, 3), (1, 193, 257, 3)]  # of 63 pixels at least; the second pools to 6x6 over uneven windows
    return Net("alexnet", "torch", "torch", reference, torchvision.models.alexnet, taps, "classifier.6", committed=True, cases=cases)


NETS = {"alexnet.torch": alexnet}
