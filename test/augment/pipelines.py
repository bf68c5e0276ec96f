"""Writes pipelines.json: what the published preprocessings make of three synthetic pictures, every 41st value.

Needs Pillow 12 or older (see src/augment/resample-pillow.ts) and TensorFlow: python pipelines.py
"""

import json
import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

SIZE = 32
SHORT = 37  # round(256 / 224 * 32)
PICTURES = [(301, 200), (173, 307), (33, 90)]  # width, height


def picture(width, height):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((x * 7 + y * 13 + c * 50 + (x * y) % 31) % 256).astype(np.uint8)


def torch(pixels):
    image = Image.fromarray(pixels)
    w, h = image.size
    short, long = (w, h) if w <= h else (h, w)
    new_long = int(SHORT * long / short)
    new_w, new_h = (SHORT, new_long) if w <= h else (new_long, SHORT)
    image = image.resize((new_w, new_h), Image.Resampling.BILINEAR)
    top, left = int(round((new_h - SIZE) / 2.0)), int(round((new_w - SIZE) / 2.0))
    scaled = np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), np.float32) / np.float32(255)
    return (scaled - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])


def stretched(pixels):
    return tf.image.resize(pixels, (SIZE, SIZE), method="bilinear").numpy()


def caffe(pixels):
    return tf.keras.applications.imagenet_utils.preprocess_input(stretched(pixels), mode="caffe")


def tf_mode(pixels):
    return tf.keras.applications.imagenet_utils.preprocess_input(stretched(pixels), mode="tf")


def torch_mode(pixels):
    return tf.keras.applications.imagenet_utils.preprocess_input(stretched(pixels), mode="torch")


def efficientnet(pixels):
    """The layers before the stem of EfficientNet(weights="imagenet"), with the numbers of its weights file."""
    std = [0.229, 0.224, 0.225]
    layers = [
        tf.keras.layers.Rescaling(1.0 / 255.0),
        # https://github.com/tensorflow/tensorflow/issues/49930: the file has the deviation for the variance
        tf.keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=std),
        tf.keras.layers.Rescaling([1.0 / math.sqrt(s) for s in std]),
    ]
    return tf.keras.Sequential(layers)(stretched(pixels)[None])[0].numpy()


def convnext(pixels):
    layer = tf.keras.applications.ConvNeXtTiny(weights=None).get_layer("convnext_tiny_prestem_normalization")
    return layer(stretched(pixels)[None])[0].numpy()


def slim_vgg(pixels):
    height, width = (tf.cast(n, tf.float32) for n in pixels.shape[:2])
    scale = tf.cast(SHORT, tf.float32) / (width if height > width else height)
    new = [int(tf.math.rint(height * scale)), int(tf.math.rint(width * scale))]
    resized = tf.compat.v1.image.resize_bilinear(pixels[None], new, align_corners=False)[0].numpy()
    top, left = int((new[0] - SIZE) / 2), int((new[1] - SIZE) / 2)
    return resized[top : top + SIZE, left : left + SIZE] - np.float32([123.68, 116.78, 103.94])


def slim_inception(pixels):
    image = tf.image.convert_image_dtype(pixels, tf.float32)
    image = tf.image.central_crop(image, central_fraction=0.875)
    image = tf.compat.v1.image.resize_bilinear(image[None], [SIZE, SIZE], align_corners=False)[0]
    return ((image - 0.5) * 2.0).numpy()


def main():
    pipelines = [
        ("torch", torch),
        ("caffe", caffe),
        ("tf", tf_mode),
        ("slim_vgg", slim_vgg),
        ("slim_inception", slim_inception),
        ("keras_torch", torch_mode),
        ("keras_torch", efficientnet),
        ("keras_torch", convnext),
    ]
    cases = [
        {
            "preset": preset,
            "by": pipeline.__name__,
            "width": width,
            "height": height,
            "values": [float(f"{v:.7g}") for v in pipeline(picture(width, height)).ravel()[::41]],
        }
        for width, height in PICTURES
        for preset, pipeline in pipelines
    ]
    reference = f"Pillow {PIL.__version__}, TensorFlow {tf.__version__}"
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "pipelines.json"), "w") as file:
        json.dump({"reference": reference, "size": SIZE, "step": 41, "cases": cases}, file)
        file.write("\n")


if __name__ == "__main__":
    main()
