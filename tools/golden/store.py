"""Writing fixtures: JSON with float32 as base64 (exact, a third of decimal digits), and .npy."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

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


def write_json(path: Path | str, value: Any) -> None:
    """Readable JSON, beside its final name first. run.sh formats it the way the linter wants."""
    path = FIXTURES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(beside, path)
    print(f"  {path.relative_to(FIXTURES)}  {path.stat().st_size / 1000:.0f} kB", flush=True)


def write_npy(path: Path | str, values: np.ndarray) -> None:
    path = FIXTURES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ascontiguousarray(values))
