"""A slim network for `npm run parity`: python parity_slim.py FIXTURE FOLDER (see parity.py).

The weights go into a safetensors file under slim's own names. `real` instead of a fixture: Google's MobileNet v1 with
its real ImageNet weights, on the photographs that follow (`parity_slim.py real FOLDER PHOTO...`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from families import load, main_arguments
from generator import tensor_of
from parity import batch, write_case
from slim_nets import forward, frozen_mobilenet_v1, mobilenet_v1, tf, v1


def preprocess(path: Path) -> np.ndarray:
    """slim's inception_preprocessing.preprocess_for_eval: central 87.5 %, TF1's bilinear resize, (x - .5) * 2."""
    image = tf.image.convert_image_dtype(np.asarray(Image.open(path).convert("RGB")), tf.float32)
    image = tf.image.central_crop(image, 0.875)
    image = v1.image.resize_bilinear(image[None], (224, 224), align_corners=False)
    return ((image - 0.5) * 2.0).numpy()


def real(folder: Path, photographs: list[Path]) -> None:
    values = frozen_mobilenet_v1()
    net = mobilenet_v1("1.0")
    file = "mobilenet_v1_1.0.slim.real.safetensors"
    save_file(values, folder / file)
    outputs = {}
    for path in photographs:
        image = preprocess(path)
        outputs[path.stem] = (image, forward(net, image, values)[1])
    reference = "Google's MobileNet v1 1.0 224, its ImageNet weights"
    write_case(folder, net.backbone, "slim", reference, file, net.rows, outputs)


def main(name: str, folder: Path, photographs: list[Path]) -> None:
    if name == "real":
        return real(folder, photographs)
    net, outputs = load("slim")[name](), {}
    for size in net.sizes:
        of, values = forward(net, batch(size))
        outputs[str(size)] = (batch(size), values)
    file = f"{name}.safetensors"
    save_file({r[0]: tensor_of(r) for r in of}, folder / file)
    write_case(folder, net.backbone, "slim", net.reference, file, of, outputs)


if __name__ == "__main__":
    if arguments := main_arguments(load("slim")):
        main(arguments[0], Path(arguments[1]), [Path(at) for at in arguments[2:]])
