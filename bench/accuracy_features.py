"""What torchvision's MobileNetV2 sees in pictures: pre_logits, plain and mirrored.

Reads a task (JSON) from standard input: `weights` (the .pth), `pictures` (paths) and `out`, which gets little-endian
float32 [2, pictures, 1280]: the plain pictures first, then the mirrored ones. Preprocessing is torchvision's own.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.transforms.functional import hflip

BATCH = 16

# torchvision references/classification/presets.py, ClassificationPresetEval
crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
numbers = transforms.Compose(
    [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
)


def main(task: dict) -> dict:
    torch.set_num_threads(task["threads"])
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(task["weights"], map_location="cpu", weights_only=True))
    model.classifier = torch.nn.Identity()  # what remains: features, and the mean over positions
    model.eval()
    views = ([], [])
    with torch.inference_mode():
        for start in range(0, len(task["pictures"]), BATCH):
            images = [crop(Image.open(path).convert("RGB")) for path in task["pictures"][start : start + BATCH]]
            views[0].append(model(torch.stack([numbers(image) for image in images])).numpy())
            views[1].append(model(torch.stack([numbers(hflip(image)) for image in images])).numpy())
    found = np.stack([np.concatenate(view) for view in views]).astype("<f4")
    found.tofile(task["out"])
    return {"shape": found.shape, "runs": f"torchvision {torchvision.__version__}, torch {torch.__version__}"}


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
