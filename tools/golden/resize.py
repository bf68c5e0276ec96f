"""Resize fixtures: two synthetic pictures, resized by Pillow and by both of TensorFlow's bilinear rules.

Methods in test/golden/fixtures/resize/index.json:
  pillow-bilinear, pillow-bicubic  antialiased (the filter widens when shrinking), uint8 out
  tf-bilinear                      tf.image.resize(bilinear, antialias=False): half-pixel centres, float32 out
  tf1-bilinear                     tf.compat.v1.image.resize_bilinear(align_corners=False, half_pixel_centers=False)
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

from generator import tensor
from store import FIXTURES, write_json, write_npy

# (width, height) of the picture, then (width, height) of each target: shrink, shrink a lot, one axis only,
# enlarge, enlarge one axis while shrinking the other.
PICTURES = {
    "wide": ((97, 61), [(48, 32), (9, 7), (40, 61), (110, 75), (60, 90)]),
    "tall": ((40, 53), [(17, 23), (80, 106), (64, 64), (53, 40), (40, 53)]),
}


def picture(name: str, width: int, height: int) -> np.ndarray:
    """Gradients, hard edges and noise side by side: uint8 [H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    out = np.zeros((height, width, 3), dtype=np.float64)
    out[..., 0] = 255 * x / (width - 1)
    out[..., 1] = 255 * y / (height - 1)
    out[..., 2] = 127.5 * (1 + np.sin(x * y / 37.0))
    noise = 127.5 * (1 + tensor(f"resize/{name}", (height, width, 3)).astype(np.float64))
    third = width // 3
    out[:, third : 2 * third] = noise[:, third : 2 * third]
    checker = 255.0 * (((x // 5) + (y // 3)) % 2)
    out[height // 2 :, 2 * third :] = checker[height // 2 :, 2 * third :, None] * np.array([1.0, 0.0, 0.6])
    out[4, :] = 255.0  # a thin bright line across everything
    out[:, width - 3] = 0.0
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def main() -> None:
    folder = FIXTURES / "resize"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    cases = []
    for name, ((width, height), targets) in PICTURES.items():
        pixels = picture(name, width, height)
        Image.fromarray(pixels).save(folder / f"{name}.png", optimize=True)
        write_npy(f"resize/{name}.npy", pixels)
        for w, h in targets:
            image = Image.fromarray(pixels)
            floats = pixels.astype(np.float32)[None]
            outputs = {
                "pillow-bilinear": np.asarray(image.resize((w, h), Image.Resampling.BILINEAR)),
                "pillow-bicubic": np.asarray(image.resize((w, h), Image.Resampling.BICUBIC)),
                "tf-bilinear": tf.image.resize(floats, (h, w), method="bilinear", antialias=False)[0].numpy(),
                "tf1-bilinear": tf.compat.v1.image.resize_bilinear(
                    floats, (h, w), align_corners=False, half_pixel_centers=False
                )[0].numpy(),
            }
            for method, values in outputs.items():
                file = f"{name}.{w}x{h}.{method}.npy"
                write_npy(f"resize/{file}", values)
                cases.append(
                    {
                        "image": f"{name}.png",
                        "pixels": f"{name}.npy",
                        "width": w,
                        "height": h,
                        "method": method,
                        "dtype": str(values.dtype),
                        "file": file,
                    }
                )
    reference = f"Pillow {PIL.__version__}, TensorFlow {tf.__version__}"
    write_json("resize/index.json", {"reference": reference, "cases": cases})


if __name__ == "__main__":
    main()
