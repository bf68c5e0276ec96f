"""A slim network for `npm run parity`: python parity_slim.py FIXTURE FOLDER (see parity.py).

The weights go into a checkpoint, as TensorFlow 1's Saver wrote slim's: version 1 for the networks of 2016, version 2 for
the MobileNets. `real` instead of a fixture: Google's MobileNet v1 with
its real ImageNet weights, on the photographs that follow (`parity_slim.py real FOLDER PHOTO...`). `real-files FOLDER`
writes those weights in both versions and prints the names of the files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from families import load, main_arguments
from generator import tensor_of
from parity import batch, write_case
from slim_mobilenet import frozen_mobilenet_v1, mobilenet_v1
from slim_nets import forward, tf, v1


def preprocess(path: Path) -> np.ndarray:
    """slim's inception_preprocessing.preprocess_for_eval: central 87.5 %, TF1's bilinear resize, (x - .5) * 2."""
    image = tf.image.convert_image_dtype(np.asarray(Image.open(path).convert("RGB")), tf.float32)
    image = tf.image.central_crop(image, 0.875)
    image = v1.image.resize_bilinear(image[None], (224, 224), align_corners=False)
    return ((image - 0.5) * 2.0).numpy()


def write_checkpoint(
    folder: Path, name: str, backbone: str, values: dict[str, np.ndarray], newer: bool | None = None
) -> str:
    """The file to import; `newer`: in version 2, by default where slim's own is."""
    newer = backbone.startswith("mobilenet") if newer is None else newer
    version = v1.train.SaverDef.V2 if newer else v1.train.SaverDef.V1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = []
        for variable, value in values.items():
            variables.append(v1.get_variable(variable, value.shape, initializer=v1.zeros_initializer()))
            variables[-1].load(value, session)
        saver = v1.train.Saver(variables, write_version=version)
        saver.save(session, str(folder / f"{name}.ckpt"), write_state=False, write_meta_graph=False)
    return f"{name}.ckpt{'.index' if newer else ''}"


def real(folder: Path, photographs: list[Path]) -> None:
    values = frozen_mobilenet_v1()
    net = mobilenet_v1("1.0")
    file = write_checkpoint(folder, "mobilenet_v1_1.0.slim.real", net.backbone, values)
    outputs = {}
    for path in photographs:
        image = preprocess(path)
        outputs[path.stem] = (image, forward(net, image, values)[1])
    reference = "Google's MobileNet v1 1.0 224, its ImageNet weights"
    write_case(folder, net.backbone, "slim", reference, file, net.rows, outputs)


def main(name: str, folder: Path, photographs: list[Path]) -> None:
    if name == "real-files":
        values = frozen_mobilenet_v1()
        for newer in (False, True):
            print(write_checkpoint(folder, f"real-v{1 + newer}", "mobilenet_v1_1.0", values, newer))
        return None
    if name == "real":
        return real(folder, photographs)
    net, outputs = load("slim")[name](), {}
    for size in net.sizes:
        of, values = forward(net, batch(size))
        outputs[str(size)] = (batch(size), values)
    file = write_checkpoint(folder, name, net.backbone, {r[0]: tensor_of(r) for r in of})
    write_case(folder, net.backbone, "slim", net.reference, file, of, outputs)


if __name__ == "__main__":
    if arguments := main_arguments(load("slim")):
        main(arguments[0], Path(arguments[1]), [Path(at) for at in arguments[2:]])
