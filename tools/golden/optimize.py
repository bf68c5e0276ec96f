"""What the optimisation fixtures of Keras and PyTorch have in common: parameters, their gradients, learning rates.

Four tensors as a network has them, twenty steps; all numbers are those of generator.py, in float64. The TypeScript side
(test/train/optimize.test.ts) makes the same from the names.
"""

from __future__ import annotations

import math

import numpy as np

from generator import tensor

STEPS = 20

SHAPES = {"a.kernel": (3, 4), "a.bias": (4,), "b.conv.kernel": (2, 2, 3, 2), "b.norm.gamma": (2,)}

KERNELS = ("a.kernel", "b.conv.kernel")


def starts() -> dict[str, np.ndarray]:
    return {path: tensor(path, shape, 0.0, 1.0).astype(np.float64) for path, shape in SHAPES.items()}


def gradient(path: str, step: int) -> np.ndarray:
    """Of very different sizes, as they are in a network. Steps count from 1."""
    return tensor(f"{path} gradient {step}", SHAPES[path], 0.0, 10.0 ** -(step % 3)).astype(np.float64)


def varying(step: int) -> float:
    """Rises and falls as under a schedule."""
    return 0.01 * (1 + 0.9 * math.sin(step))


LOGITS = (6, 5)
"""Shape of the logits of the losses: pictures, classes."""


def logits() -> np.ndarray:
    return tensor("logits", LOGITS, 0.0, 4.0).astype(np.float64)


def labels() -> np.ndarray:
    return np.arange(LOGITS[0]) % LOGITS[1]


def soft_targets(smoothing: float) -> np.ndarray:
    return np.eye(LOGITS[1])[labels()] * (1 - smoothing) + smoothing / LOGITS[1]


CLASS_WEIGHTS = (0.5, 2.0, 1.0, 0.25, 3.0)
