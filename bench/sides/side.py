"""What every side in Python does around its work: reads a task, times steps, tells what it measured."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Callable

import numpy as np


def read_task() -> dict:
    return json.load(sys.stdin)


def time_steps(task: dict, step: Callable[[], "np.typing.ArrayLike"]) -> dict:
    """Times a step again and again; of the first `keep` ones the numbers are told, by which sides are compared."""
    outputs, times = [], []
    for i in range(task["warmUp"] + task["steps"]):
        began = time.perf_counter()
        numbers = step()
        ms = 1000 * (time.perf_counter() - began)
        if i >= task["warmUp"]:
            times.append(ms)
        if len(outputs) < task["keep"]:
            outputs.append(np.ravel(numbers).tolist())
    return {"outputs": outputs, "timesMs": times}


def peak_bytes() -> int:
    """Most memory this process ever had."""
    try:
        with open("/proc/self/status") as status:
            (line,) = [each for each in status if each.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tell(record: dict) -> None:
    """Writes the record as the last line of the output."""
    print()
    print(json.dumps({"peakBytes": peak_bytes(), **record}))


def python() -> str:
    return f"Python {sys.version.split()[0]}"
