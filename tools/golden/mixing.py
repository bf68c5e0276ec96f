"""Mixup and cutmix by torchvision, for test/train/mixing.test.ts.

What is random is given: the share lambda and the centre of the rectangle. The pictures are a tensor of generator.py called
`batch`, [N, H, W, C]; the labels are the row's number modulo the classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from generator import tensor
from store import full, write_json
from torchvision.transforms.v2 import CutMix, MixUp

#: shape, classes, share, centre of the rectangle as fractions of width and height (cutmix), label smoothing
CASES = (
    ((4, 6, 8, 3), 3, 0.7, None, 0.0),
    ((3, 5, 5, 1), 5, 0.25, None, 0.1),
    ((1, 4, 4, 3), 2, 0.4, None, 0.0),
    ((4, 6, 8, 3), 3, 0.7, (0.5, 0.5), 0.0),
    ((5, 9, 7, 3), 4, 0.3, (0.05, 0.9), 0.1),
    ((2, 8, 8, 4), 2, 0.99, (0.3, 0.3), 0.0),
    ((3, 8, 8, 1), 6, 0.0, (0.6, 0.1), 0.2),
)


def case(shape: tuple[int, ...], classes: int, share: float, centre: tuple[float, float] | None, smoothing: float) -> dict:
    n, height, width, _ = shape
    pictures = torch.tensor(tensor("batch", list(shape), 0.0, 1.0)).permute(0, 3, 1, 2)
    labels = torch.arange(n) % classes
    smoothed = torch.nn.functional.one_hot(labels, classes).double() * (1 - smoothing) + smoothing / classes
    transform = (MixUp if centre is None else CutMix)(num_classes=classes)
    if centre is None:
        params = {"labels": labels, "batch_size": n, "lam": share}
        weight = share
    else:
        # As CutMix.make_params, with the drawn numbers given.
        x, y = int(centre[0] * width), int(centre[1] * height)
        r = 0.5 * (1.0 - share) ** 0.5
        half_w, half_h = int(r * width), int(r * height)
        x1, y1 = max(x - half_w, 0), max(y - half_h, 0)
        x2, y2 = min(x + half_w, width), min(y + half_h, height)
        weight = float(1.0 - (x2 - x1) * (y2 - y1) / (width * height))
        params = {"labels": labels, "batch_size": n, "box": (x1, y1, x2, y2), "lam_adjusted": weight}
    transform_ = getattr(transform, "transform", None) or transform._transform
    mixed = transform_(torchvision.tv_tensors.Image(pictures), params).as_subclass(torch.Tensor)
    targets = smoothed.roll(1, 0) * (1 - weight) + smoothed * weight
    if smoothing == 0:
        assert torch.allclose(transform_(labels, params).double(), targets)
    return {
        "kind": "mixup" if centre is None else "cutmix",
        "shape": list(shape),
        "classes": classes,
        "share": share,
        "centre": list(centre or (0, 0)),
        "labelSmoothing": smoothing,
        "left": weight,
        "pixels": full(mixed.permute(0, 2, 3, 1).contiguous().numpy().astype(np.float32)),
        "targets": targets.tolist(),
    }


def main() -> None:
    write_json("mixing.json", {"torchvision": torchvision.__version__.split("+")[0], "cases": [case(*each) for each in CASES]})


if __name__ == "__main__":
    main()
