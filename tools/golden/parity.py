"""What `npm run parity` compares at real size: a real weights file, inputs at two sizes, the reference's outputs.

Each variant gets a folder: the weights file, input-<size>.npy, expected-<size>.npz (taps, pre_logits, logits) and
case.json, which says what they are.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Sequence

import numpy as np

from generator import Row, input_batch

def write_input(folder: Path, name: str, image: np.ndarray) -> None:
    np.save(folder / f"input-{name}.npy", np.ascontiguousarray(image, dtype=np.float32))


def batch(size: int, channels: int = 3) -> np.ndarray:
    return input_batch((1, size, size, channels))


def write_case(
    folder: Path,
    backbone: str,
    source: str,
    reference: str,
    file: str,
    rows: Sequence[Row],
    outputs: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]],
    **more: object,
) -> None:
    """`outputs`: name of the input -> the input, and the reference's taps, pre_logits and logits."""
    for name, (image, values) in outputs.items():
        write_input(folder, name, image)
        np.savez(folder / f"expected-{name}.npz", **{tap: v.astype(np.float32) for tap, v in values.items()})
    taps = [tap for tap in next(iter(outputs.values()))[1] if tap not in ("pre_logits", "logits")]
    statistics = ("moving_", "running_")
    ours = [r for r in rows if not r[0].startswith("normalization/")]  # of the picture, in Keras' EfficientNets
    trainable = [r for r in ours if not any(each in r[0] for each in statistics)]
    case = {
        "backbone": backbone,
        "source": source,
        "reference": reference,
        "file": file,
        "parameters": sum(math.prod(r[1]) for r in trainable),
        "taps": taps,
        "inputs": list(outputs),
    } | more
    (folder / "case.json").write_text(json.dumps(case, indent=2) + "\n")
