"""Random changes to pictures by torchvision and Pillow, for test/augment/operations.test.ts; what is random is given.

Pictures are tensors of generator.py called `picture`, [H, W, channels], center and scale 127.5, rounded down to bytes.
Operations are RandAugment's on PIL images, with bilinear sampling and a fill colour; padding is Pillow's ImageOps.pad; crops
are torchvision's TenCrop out of the central square of a resized picture, as Krizhevsky 2012 cuts them.
"""

from __future__ import annotations

import base64

import numpy as np
import PIL
import torch
import torchvision
import torchvision.transforms.functional as F
from generator import tensor
from PIL import Image, ImageOps
from store import b64, write_json
from torchvision.transforms import InterpolationMode, RandAugment, TenCrop
from torchvision.transforms.autoaugment import _apply_op

FILL = {1: (90,), 3: (124, 116, 104), 4: (124, 116, 104, 255)}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

#: operation -> magnitudes, signs as drawn
OPERATIONS = {
    "ShearX": (0.09, -0.3),
    "ShearY": (0.09, -0.3),
    "TranslateX": (2.6, -3.4),
    "TranslateY": (1.2, -2.9),
    "Rotate": (9.0, -30.0, 0.0),
    "Brightness": (0.27, -0.9, 0.9),
    "Color": (0.27, -0.9, 0.9),
    "Contrast": (0.27, -0.9, 0.9),
    "Sharpness": (0.27, -0.9, 0.9),
    "Posterize": (7, 4),
    "Solarize": (255.0, 178.5, 0.0),
    "AutoContrast": (0.0,),
    "Equalize": (0.0,),
    "Identity": (0.0,),
}
#: of four channels only what Pillow does with alpha
GEOMETRY = ("ShearX", "ShearY", "TranslateX", "Rotate")
LIGHT = ("Brightness", "Color", "Contrast", "Sharpness")


def picture(height: int, width: int, channels: int, low: int = 0, high: int = 255) -> Image.Image:
    values = tensor("picture", [height, width, channels], 127.5, 127.5).clip(0, 255).astype(np.uint8)
    values = (low + values.astype(np.int64) * (high - low) // 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values, MODES[channels])


def bytes_of(image: Image.Image) -> str:
    return base64.b64encode(np.asarray(image).tobytes()).decode("ascii")


def operations() -> list[dict]:
    cases = []
    for channels in (1, 3, 4):
        for name, magnitudes in OPERATIONS.items():
            if channels == 4 and name not in GEOMETRY + LIGHT:
                continue
            for magnitude in magnitudes:
                given = {"height": 11, "width": 14, "channels": channels, "low": 30, "high": 222}
                image = picture(**given)
                changed = _apply_op(image, name, magnitude, InterpolationMode.BILINEAR, list(FILL[channels]))
                cases.append({**given, "name": name, "magnitude": magnitude, "fill": FILL[channels], "expected": bytes_of(changed)})
    # Enough pixels for steps of the histogram, and one grey value for those that have none.
    for channels, low, high in ((1, 60, 90), (3, 100, 130), (3, 7, 7)):
        for name in ("Equalize", "AutoContrast"):
            given = {"height": 30, "width": 31, "channels": channels, "low": low, "high": high}
            changed = _apply_op(picture(**given), name, 0.0, InterpolationMode.BILINEAR, None)
            cases.append({**given, "name": name, "magnitude": 0.0, "fill": FILL[channels], "expected": bytes_of(changed)})
    return cases


def magnitudes() -> list[dict]:
    """What RandAugment calls each operation with."""
    cases = []
    for level in (0, 9, 17, 30):
        for name, (values, signed) in RandAugment()._augmentation_space(31, (224, 320)).items():
            value = float(values[level].item()) if values.ndim > 0 else 0.0
            cases.append({"name": name, "level": level, "height": 224, "width": 320, "value": value, "signed": signed})
    return cases


def pads() -> list[dict]:
    cases = []
    for (height, width), (wanted_height, wanted_width), channels in (
        # Pillow 13 resizes upright pictures that shrink first downwards, earlier versions and `tl` always sidewards: none here.
        ((13, 20), (16, 16), 3),
        ((20, 13), (16, 16), 3),
        ((9, 9), (12, 21), 3),
        ((7, 31), (10, 12), 3),
        ((10, 4), (14, 16), 1),
        ((10, 10), (8, 8), 3),
        ((15, 22), (9, 14), 4),
    ):
        given = {"height": height, "width": width, "channels": channels}
        size = {"height": wanted_height, "width": wanted_width}
        colour = FILL[channels] if channels > 1 else FILL[channels][0]
        padded = ImageOps.pad(picture(**given), (wanted_width, wanted_height), Image.Resampling.BILINEAR, colour)
        cases.append({**given, "size": size, "fill": FILL[channels], "expected": bytes_of(padded)})
    return cases


def hues() -> list[dict]:
    image = torch.tensor(np.asarray(picture(11, 14, 3)).copy()).permute(2, 0, 1).double() / 255
    return [
        {"factor": factor, "expected": b64(F.adjust_hue(image, factor).permute(1, 2, 0).numpy().astype(np.float32) * 255)}
        for factor in (0.1, -0.1, 0.5, 0.0)
    ]


def crops() -> list[dict]:
    cases = []
    for height, width in ((40, 53), (61, 37)):
        size, margin = 14, 16
        image = F.center_crop(F.resize(picture(height, width, 3), margin, InterpolationMode.BILINEAR), margin)
        cases.append({"height": height, "width": width, "size": size, "crops": [bytes_of(each) for each in TenCrop(size)(image)]})
    return cases


def main() -> None:
    write_json(
        "augment.json",
        {
            "reference": f"torchvision {torchvision.__version__.split('+')[0]}, Pillow {PIL.__version__}",
            "operations": operations(),
            "magnitudes": magnitudes(),
            "pads": pads(),
            "hues": hues(),
            "crops": crops(),
        },
    )


if __name__ == "__main__":
    main()
