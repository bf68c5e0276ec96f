"""A torchvision or timm network for `npm run parity`: python parity_torch.py FIXTURE FOLDER (see parity.py).

`real` instead of a fixture: torchvision's MobileNetV2 with its real ImageNet weights, on photographs
(`parity_torch.py real FOLDER WEIGHTS.pth PHOTO...`).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms

from families import load, main_arguments
from parity import batch, write_case
from torch_mobilenet import mobilenet_v2
from torch_nets import forward, rows, set_weights

# torchvision references/classification/presets.py, ClassificationPresetEval
preprocess = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def real(folder: Path, weights: Path, photographs: list[Path]) -> None:
    net = mobilenet_v2()
    model = net.build()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    shutil.copy(weights, folder / weights.name)
    outputs = {}
    for path in photographs:
        image = preprocess(Image.open(path).convert("RGB"))[None].permute(0, 2, 3, 1).contiguous().numpy()
        outputs[path.stem] = (image, forward(net, model, image))
    reference = "torchvision's MobileNetV2, its ImageNet weights"
    write_case(folder, net.backbone, net.source, reference, weights.name, rows(model, net.classifier), outputs)


def main(name: str, folder: Path, arguments: list[Path]) -> None:
    if name == "real":
        return real(folder, arguments[0], arguments[1:])
    net = load("torch")[name]()
    model = net.build()
    of = set_weights(model, net.classifier, row_of=net.row_of)
    file = f"{name}.pth"
    torch.save(model.state_dict(), folder / file)
    outputs = {str(size): (batch(size), forward(net, model, batch(size))) for size in net.sizes}
    write_case(folder, net.backbone, net.source, net.reference, file, of, outputs)


if __name__ == "__main__":
    if arguments := main_arguments(load("torch")):
        main(arguments[0], Path(arguments[1]), [Path(at) for at in arguments[2:]])
