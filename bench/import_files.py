"""Large weights files by their real writers, with random numbers: `python import_files.py KIND PATH`.

KIND is a network and a format: see KINDS. Tensors are made one at a time where the writer allows it.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np

RANDOM = np.random.default_rng(1)
ViT_H = {"depth": 32, "width": 1280, "mlp": 5120, "heads": 16, "patch": 14, "tokens": 16 * 16 + 1, "classes": 1000}
# VGG-16's convolutions as (block, number in it, channels in, channels out), and its dense layers
VGG = [(b, i, (c_in if i == 1 else c), c) for b, n, c_in, c in
       [(1, 2, 3, 64), (2, 2, 64, 128), (3, 3, 128, 256), (4, 3, 256, 512), (5, 3, 512, 512)] for i in range(1, n + 1)]
VGG_DENSE = [(25088, 4096), (4096, 4096), (4096, 1000)]


def numbers(shape):
    return RANDOM.standard_normal(size=shape, dtype=np.float32) * np.float32(0.02)


def vit_flax():
    """Google's names and layouts (vit_jax/checkpoint.py, the published npz files)."""
    v = ViT_H
    width, head = v["width"], v["width"] // v["heads"]
    yield "cls", (1, 1, width)
    yield "embedding/kernel", (v["patch"], v["patch"], 3, width)
    yield "embedding/bias", (width,)
    yield "Transformer/posembed_input/pos_embedding", (1, v["tokens"], width)
    for i in range(v["depth"]):
        block = f"Transformer/encoderblock_{i}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            yield f"{block}/{norm}/scale", (width,)
            yield f"{block}/{norm}/bias", (width,)
        for part in ("query", "key", "value"):
            yield f"{block}/MultiHeadDotProductAttention_1/{part}/kernel", (width, v["heads"], head)
            yield f"{block}/MultiHeadDotProductAttention_1/{part}/bias", (v["heads"], head)
        yield f"{block}/MultiHeadDotProductAttention_1/out/kernel", (v["heads"], head, width)
        yield f"{block}/MultiHeadDotProductAttention_1/out/bias", (width,)
        yield f"{block}/MlpBlock_3/Dense_0/kernel", (width, v["mlp"])
        yield f"{block}/MlpBlock_3/Dense_0/bias", (v["mlp"],)
        yield f"{block}/MlpBlock_3/Dense_1/kernel", (v["mlp"], width)
        yield f"{block}/MlpBlock_3/Dense_1/bias", (width,)
    yield "Transformer/encoder_norm/scale", (width,)
    yield "Transformer/encoder_norm/bias", (width,)
    yield "head/kernel", (width, v["classes"])
    yield "head/bias", (v["classes"],)


def vit_timm():
    """timm's names (timm/models/vision_transformer.py)."""
    v = ViT_H
    width = v["width"]
    yield "cls_token", (1, 1, width)
    yield "pos_embed", (1, v["tokens"], width)
    yield "patch_embed.proj.weight", (width, 3, v["patch"], v["patch"])
    yield "patch_embed.proj.bias", (width,)
    for i in range(v["depth"]):
        for name, shape in [
            ("norm1.weight", (width,)), ("norm1.bias", (width,)),
            ("attn.qkv.weight", (3 * width, width)), ("attn.qkv.bias", (3 * width,)),
            ("attn.proj.weight", (width, width)), ("attn.proj.bias", (width,)),
            ("norm2.weight", (width,)), ("norm2.bias", (width,)),
            ("mlp.fc1.weight", (v["mlp"], width)), ("mlp.fc1.bias", (v["mlp"],)),
            ("mlp.fc2.weight", (width, v["mlp"])), ("mlp.fc2.bias", (width,)),
        ]:  # fmt: skip
            yield f"blocks.{i}.{name}", shape
    yield "norm.weight", (width,)
    yield "norm.bias", (width,)
    yield "head.weight", (v["classes"], width)
    yield "head.bias", (v["classes"],)


def write_npz(path, compression):
    with zipfile.ZipFile(path, "w", compression) as archive:  # as numpy.savez does, an array at a time
        for name, shape in vit_flax():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, numbers(shape), allow_pickle=False)


def write_torch(path, tensors, legacy=False):
    import torch

    state = {name: torch.from_numpy(numbers(shape)) for name, shape in tensors}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


def write_safetensors(path):
    from safetensors.numpy import save_file

    save_file({name: numbers(shape) for name, shape in vit_timm()}, path)


def vgg_torch():
    """torchvision's places in its Sequential (torchvision/models/vgg.py, configuration D)."""
    for place, (_, _, c_in, c_out) in zip([0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28], VGG):
        yield f"features.{place}.weight", (c_out, c_in, 3, 3)
        yield f"features.{place}.bias", (c_out,)
    for place, (c_in, c_out) in zip([0, 3, 6], VGG_DENSE):
        yield f"classifier.{place}.weight", (c_out, c_in)
        yield f"classifier.{place}.bias", (c_out,)


def write_vgg_h5(path):
    """As Keras 2's save_weights lays it out (hdf5_format.py)."""
    import h5py

    layers = [(f"block{b}_conv{i}", (3, 3, c_in, c_out)) for b, i, c_in, c_out in VGG]
    layers += zip(["fc1", "fc2", "predictions"], VGG_DENSE)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"
        for name, shape in layers:
            group = file.create_group(name)
            weights = [(f"{name}/kernel:0", shape), (f"{name}/bias:0", shape[-1:])]
            group.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
            for weight, each in weights:
                group.create_dataset(weight, data=numbers(each))


def write_vgg_checkpoint(path):
    import tensorflow as tf

    names, tensors = [], []
    for b, i, c_in, c_out in VGG:
        names += [f"vgg_16/conv{b}/conv{b}_{i}/weights", f"vgg_16/conv{b}/conv{b}_{i}/biases"]
        tensors += [numbers((3, 3, c_in, c_out)), numbers((c_out,))]
    for layer, (c_in, c_out), side in zip(["fc6", "fc7", "fc8"], VGG_DENSE, [7, 1, 1]):
        names += [f"vgg_16/{layer}/weights", f"vgg_16/{layer}/biases"]
        tensors += [numbers((side, side, c_in // side**2, c_out)), numbers((c_out,))]
    tf.raw_ops.SaveV2(prefix=path, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)


def write_tar(path):
    source = Path(path).with_name("vit_h14.npz")
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        archive.add(source, "weights/vit_h14.npz")


KINDS = {
    "vit_h14.npz": lambda path: write_npz(path, zipfile.ZIP_STORED),
    "vit_h14-deflated.npz": lambda path: write_npz(path, zipfile.ZIP_DEFLATED),
    "vit_h14.pth": lambda path: write_torch(path, vit_timm()),
    "vit_h14-stream.pth": lambda path: write_torch(path, vit_timm(), legacy=True),
    "vit_h14.safetensors": write_safetensors,
    "vgg16.h5": write_vgg_h5,
    "vgg16.pth": lambda path: write_torch(path, vgg_torch()),
    "vgg16.ckpt": write_vgg_checkpoint,
    "vit_h14.tar.gz": write_tar,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](sys.argv[2])
