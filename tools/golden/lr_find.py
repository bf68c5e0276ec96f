"""What fastai's learning-rate finder makes of losses: smoothed ones, and the rates it suggests, for test/train.

The functions themselves are read from the sources of fastai 2.7.18, which run.sh unpacks, and run alone: the rest of the
package is not needed. Losses are of made-up curves, by generator.py. `python lr_find.py` in the environment torch.
"""

from __future__ import annotations

import ast
import math
import os
from pathlib import Path

import numpy as np
import torch
from generator import tensor
from store import b64, write_json

FASTAI = Path(os.environ.get("TL_GOLDEN_HOME", Path.home() / ".cache/tl/golden")) / "slim" / "fastai"


def definitions(file: str, *names: str) -> dict:
    """Functions and classes of a file, each compiled from its own source."""
    tree = ast.parse((FASTAI / file).read_text())
    wanted = [node for node in tree.body if getattr(node, "name", None) in names]
    assert len(wanted) == len(names)
    space = {"torch": torch, "tensor": torch.tensor, "np": np, "Metric": object, "to_detach": lambda x: x.detach()}
    exec(compile(ast.Module(wanted, []), file, "exec"), space)
    return space


finder = definitions("callback/schedule.py", "valley", "steep")
AvgSmoothLoss = definitions("learner.py", "AvgSmoothLoss")["AvgSmoothLoss"]

STEPS = 100


class Learn:
    def __init__(self, loss: float) -> None:
        self.loss = torch.tensor(loss, dtype=torch.float64)


def curve(name: str, shape, noise: float) -> list[float]:
    wobble = tensor(name, [STEPS], 0.0, noise).astype(np.float64)
    return [float(np.float32(shape(i / STEPS) + wobble[i])) for i in range(STEPS)]


#: names of losses over the share of the test that is done
CURVES = {
    "a valley": curve("a valley", lambda t: 2.3 - 1.6 / (1 + math.exp(-18 * (t - 0.55))) + math.exp(28 * (t - 0.92)), 0.03),
    "noise": curve("noise", lambda t: 1.5 - t, 0.6),
    "falls to the end": curve("falls", lambda t: 3 * math.exp(-3 * t), 0.0),
    "never falls": curve("rises", lambda t: 1 + 3 * t * t, 0.0),
    "diverges": curve("diverges", lambda t: 2 - t + math.exp(30 * (t - 0.6)), 0.01),
}


def case(losses: list[float]) -> dict:
    average = AvgSmoothLoss()
    average.reset()
    average.val = torch.tensor(0.0, dtype=torch.float64)
    best, rates, smoothed = math.inf, [], []
    for i, loss in enumerate(losses):
        rates.append(1e-7 * (10 / 1e-7) ** (i / STEPS))  # SchedExp
        average.accumulate(Learn(loss))
        smoothed.append(float(average.value))
        best = min(best, smoothed[-1])
        if smoothed[-1] > 4 * best:  # LRFinder.after_batch
            break
    # as lr_find gives them to its functions
    looked = slice(STEPS // 10, -5)
    lrs, values = torch.tensor(rates, dtype=torch.float64)[looked], torch.tensor(smoothed, dtype=torch.float64)[looked]
    return {
        "losses": b64(np.array(losses)),
        "steps": len(rates),
        "rates": rates[:3] + rates[-1:],
        "smoothed": b64(np.array(smoothed)),
        "steep": finder["steep"](lrs, values, STEPS)[0],
        "valley": finder["valley"](lrs, values, STEPS)[0],
    }


def main() -> None:
    write_json("training/lr-find.json", {"fastai": "2.7.18", "cases": {name: case(losses) for name, losses in CURVES.items()}})


if __name__ == "__main__":
    main()
