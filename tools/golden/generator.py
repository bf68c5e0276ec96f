"""Deterministic weights: every value follows from the tensor's published name, so no fixture carries weights.

Element i (C order in the published layout) of the tensor called `name`:
    h = FNV-1a 32 of the UTF-8 name; x = fmix32(h + i * 0x9E3779B9 mod 2^32) (murmur3's finaliser)
    r = x / 2^31 - 1 in [-1, 1), in float64; value = float32(center + scale * r)
The same generator in TypeScript: test/support/golden.ts.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

Row = tuple[str, list[int], float, float]
"""Published name, published shape, center, scale."""


def fnv1a32(text: str) -> int:
    """FNV-1a, 32 bits (Fowler, Noll, Vo): offset basis 0x811C9DC5, prime 0x01000193."""
    h = 0x811C9DC5
    for byte in text.encode("utf-8"):
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def tensor(name: str, shape: Sequence[int], center: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """The float32 tensor of that name."""
    count = int(np.prod(shape)) if len(shape) else 1
    x = (np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)) + np.uint32(fnv1a32(name))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    r = x.astype(np.float64) / 2.0**31 - 1.0
    return (center + scale * r).astype(np.float32).reshape(shape)


def row(name: str, shape: Sequence[int], role: str) -> Row:
    """A tensor's row, its distribution by role, so that activations neither vanish nor explode over 50 layers."""
    shape = [int(n) for n in shape]
    if role == "kernel":  # HWIO (or IO): He uniform
        center, scale = 0.0, math.sqrt(6 / math.prod(shape[:-1]))
    elif role == "kernel_oihw":
        center, scale = 0.0, math.sqrt(6 / math.prod(shape[1:]))
    elif role == "depthwise":  # HWCM: one input channel a filter, or a sum over M of them (Keras' ResNeXt)
        center, scale = 0.0, math.sqrt(6 / (shape[0] * shape[1] * shape[3]))
    elif role == "classifier":  # (1, 1,) in, out
        center, scale = 0.0, math.sqrt(3 / math.prod(shape[:-1]))
    elif role == "classifier_oi":
        center, scale = 0.0, math.sqrt(3 / shape[1])
    elif role in ("bias", "beta", "mean"):
        center, scale = 0.0, 0.1
    elif role == "gamma":
        center, scale = 1.0, 0.3
    elif role == "gamma_last":  # the last norm of a residual branch
        center, scale = 0.5, 0.3
    elif role in ("gamma_relu6", "gamma_hard"):
        # Offsets, not gains, take activations past both cuts of relu6 (so plain relu fails): with gammas near 2 they
        # would pass it too, but 27 layers then multiply float32's rounding error by thousands.
        center, scale = 0.75, 0.2
    elif role == "beta_relu6":
        center, scale = 3.0, 4.0
    elif role == "beta_hard":  # past both ends of hard-swish, -3 and 3
        center, scale = 0.5, 4.5
    elif role == "bias_gate":  # of a hard sigmoid: some gates shut, some open, most between
        center, scale = 0.5, 4.5
    elif role == "variance":
        center, scale = 1.0, 0.5
    else:
        raise ValueError(f"{name}: no role {role}")
    # Seven digits: the same decimal in JSON, numpy and JavaScript.
    return (name, shape, center, float(f"{scale:.7g}"))


def training_row(r: Row, norm: bool) -> Row:
    """The same tensor's row for a training fixture; of a norm: gammas 0.4 to 0.8, betas 1 to 3.

    Normalised activations then lie two to six deviations from the kinks of relu, so that about one in fifty is cut.
    With gammas near 1 and betas near 0 half of them are, some within rounding error of zero: which side they fall on
    differs between kernels of one and the same TensorFlow, and moves gradients by up to a tenth of their maximum.
    """
    name, shape, _, _ = r
    if norm and name.endswith(("gamma", "weight")):
        return (name, shape, 0.6, 0.2)
    if norm and name.endswith(("beta", "bias")):
        return (name, shape, 2.0, 1.0)
    return r


def tensor_of(r: Row) -> np.ndarray:
    return tensor(*r)


def input_batch(shape: Sequence[int]) -> np.ndarray:
    """The image batch [N, H, W, 3] in [-1, 1)."""
    return tensor("input", shape, 0.0, 1.0)
