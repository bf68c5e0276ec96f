"""Runs a program from its start to its end: reads {"program", "args", "env"} (JSON), tells its milliseconds, peak memory and output.

The same for every side, so that what is measured includes whatever a program needs before its first line. Standard
library alone: nothing of its own is in the way.
"""

import json
import os
import resource
import subprocess
import sys
import time

task = json.load(sys.stdin)
began = time.perf_counter()
ended = subprocess.run(
    [task["program"], *task["args"]], env={**os.environ, **task["env"]}, capture_output=True, text=True
)
ms = 1000 * (time.perf_counter() - began)
if ended.returncode != 0:
    sys.exit(f"{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}\nit ended with {ended.returncode}")
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # kilobytes on Linux
print(json.dumps({"ms": ms, "peakBytes": peak, "stdout": ended.stdout, "stderr": ended.stderr}))
