"""Compares two .npz files: python compare.py EXPECTED ACTUAL; prints JSON, the differences tap by tap.

`worst`: largest absolute difference divided by the reference's largest absolute value; null where a tap is absent,
has another shape, or holds something that is no number.
"""

from __future__ import annotations

import json
import sys

import numpy as np


def main(expected_path: str, actual_path: str) -> None:
    expected, actual = np.load(expected_path), np.load(actual_path)
    taps = {}
    for name in expected.files:
        want = expected[name]
        have = actual[name] if name in actual.files else None
        fault = None
        if have is None:
            fault = "absent"
        elif have.shape != want.shape:
            fault = f"shape {list(have.shape)}, expected {list(want.shape)}"
        elif not np.isfinite(have).all():
            fault = "not finite"
        worst = None if fault else float(np.abs(have - want).max() / np.abs(want).max())
        taps[name] = {"worst": worst} | ({"fault": fault} if fault else {})
    top = {}
    for name, of in (("expected", expected), ("actual", actual)):
        if "logits" in of.files:
            logits = of["logits"][0].astype(np.float64)
            p = np.exp(logits - logits.max())
            p /= p.sum()
            top[name] = [[int(i), float(p[i])] for i in np.argsort(-p)[:5]]
    print(json.dumps({"taps": taps, "top": top}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
