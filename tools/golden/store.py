"""Writing fixtures: JSON with float32 as base64 (exact, a third of decimal digits), and .npy."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from generator import Row

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "golden" / "fixtures"


def b64(values: np.ndarray) -> str:
    """Little-endian float32, base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def sampled(values: np.ndarray, keep: int) -> dict[str, Any]:
    """About `keep` elements of the flattened tensor, every `stride`-th, with its shape and largest absolute value.

    The stride is odd and no multiple of 3, so that it walks through channels and positions alike.
    """
    values = np.asarray(values, dtype=np.float32)
    flat = values.reshape(-1)
    stride = 1
    if flat.size > keep:
        stride = -(-flat.size // keep) | 1
        while stride % 3 == 0:
            stride += 2
    assert np.isfinite(flat).all()
    return {
        "shape": list(values.shape),
        "stride": stride,
        "max": float(np.abs(flat).max()),
        "values": b64(flat[::stride]),
    }


def full(values: np.ndarray) -> dict[str, Any]:
    values = np.asarray(values, dtype=np.float32)
    assert np.isfinite(values).all()
    return {"shape": list(values.shape), "stride": 1, "max": float(np.abs(values).max()), "values": b64(values)}


WIDTH = 120
"""Columns that an array may take before it gets a line an element."""


def layout(value: Any, indent: str = "", before: int = 0) -> str:
    """JSON with a line a member of every object, and short arrays on one line."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        members = [f"{json.dumps(k)}: " + layout(v, deeper, len(json.dumps(k)) + 2) for k, v in value.items()]
        return "{\n" + ",\n".join(deeper + member for member in members) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and value:
        flat = json.dumps(value)
        if not any(isinstance(v, dict) for v in value) and len(indent) + before + len(flat) < WIDTH:
            return flat
        return "[\n" + ",\n".join(deeper + layout(v, deeper) for v in value) + f"\n{indent}]"
    return json.dumps(value)


def write_json(path: Path | str, value: Any) -> None:
    """Readable JSON, beside its final name first."""
    path = FIXTURES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(layout(value) + "\n")
    os.replace(beside, path)
    print(f"  {path.relative_to(FIXTURES)}  {path.stat().st_size / 1000:.0f} kB", flush=True)


def write_npy(path: Path | str, values: np.ndarray) -> None:
    path = FIXTURES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ascontiguousarray(values))


CASES = ((2, 64, 64, 3), (1, 49, 65, 3))
"""Input shapes of the forward fixtures: an even one, and an odd one that tells padding rules apart."""

SIZES = (224, 193)
"""Input sizes of the comparison at real size: the usual published one, and an odd one that tells padding rules apart."""

TRAIN_INPUT = (8, 64, 64, 3)
"""Input shape of the training fixtures."""

TAP_VALUES = 160
"""Elements kept of each tap: enough to see any misplaced channel, pad or stride, small enough to commit."""


def forward_fixture(
    backbone: str,
    source: str,
    reference: str,
    rows: Sequence[Row],
    cases: Sequence[tuple[Sequence[int], dict[str, np.ndarray]]],
    file: str | None = None,
) -> None:
    """One network's fixture: weight rows, and for every input shape the sampled taps, pre_logits and logits."""
    written = []
    for shape, values in cases:
        taps = {tap: sampled(v, TAP_VALUES) for tap, v in values.items() if tap not in ("pre_logits", "logits")}
        spread = np.abs(values["logits"]).max()
        assert 1e-2 < spread < 1e4, f"{backbone} {source}: logits up to {spread} prove nothing"
        written.append(
            {
                "inputShape": list(shape),
                "taps": taps,
                "pre_logits": full(values["pre_logits"]),
                "logits": full(values["logits"]),
            }
        )
    fixture = {
        "backbone": backbone,
        "source": source,
        "reference": reference,
        "tensors": [list(r) for r in rows],
        "cases": written,
    }
    write_json(f"{backbone}.{file or source}.json", fixture)


TRAIN_CLASSES = 10
LABEL_SMOOTHING = 0.1
GRADIENT_VALUES = 64
"""Elements kept of each gradient and each moving statistic."""


def train_fixture(
    backbone: str,
    source: str,
    reference: str,
    rows: Sequence[Row],
    input_shape: Sequence[int],
    adam: dict[str, float],
    losses: Sequence[float],
    gradients: dict[str, np.ndarray],
    statistics: dict[str, np.ndarray],
    exact: dict[str, np.ndarray],
    auxiliary: dict[str, float] | None = None,
) -> None:
    """One network's training fixture: the first step's loss, gradients and moving statistics; ten losses with Adam.

    `exact` are the gradients in float64. Where they are zero (a bias before a batch normalisation cancels out), the
    fixture says zero instead of float32's rounding noise; elsewhere they prove that float32 can be compared to 1e-3.
    `auxiliary`: the last layer of each auxiliary classifier -> share of its loss in the whole.
    """
    assert len(losses) == 10 and all(np.isfinite(losses))
    gradients, noise = dict(gradients), {}
    for name, value in exact.items():
        largest = float(np.abs(value).max())
        if largest < 1e-10:
            gradients[name] = np.zeros_like(gradients[name])
        else:
            noise[name] = float(np.abs(gradients[name] - value).max()) / largest
    worst = max(noise, key=noise.get)
    print(f"  {backbone} {source}: float32 gradients within {noise[worst]:.1e} of float64's ({worst})")
    assert noise[worst] < 4e-4
    fixture = {
        "backbone": backbone,
        "source": source,
        "reference": reference,
        "tensors": [list(r) for r in rows],
        "inputShape": list(input_shape),
        "classes": TRAIN_CLASSES,
        "labels": [i % TRAIN_CLASSES for i in range(input_shape[0])],
        "labelSmoothing": LABEL_SMOOTHING,
        **({"auxiliary": auxiliary} if auxiliary else {}),
        "loss": losses[0],
        "adam": adam,
        "losses": list(losses),
        "gradients": {name: sampled(v, GRADIENT_VALUES) for name, v in gradients.items()},
        "statistics": {name: sampled(v, GRADIENT_VALUES) for name, v in statistics.items()},
    }
    write_json(f"{backbone}.{source}.train.json", fixture)
