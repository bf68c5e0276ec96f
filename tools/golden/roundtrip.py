"""What `tl export --format weights` wrote, run by the publisher's code: shared by the scripts of each environment.

roundtrip_<environment>.py CASE FOLDER INPUT.npy OUTPUT.npz takes the exported folder and runs the very lines of Python
that its loading.json gives to users.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np


def arguments() -> tuple[str, Path, np.ndarray, Path]:
    case, folder, given, output = sys.argv[1:5]
    return case, Path(folder).resolve(), np.load(given), Path(output).resolve()


def run_lines(folder: Path) -> dict[str, Any]:
    """The names that the lines of loading.json define, run in the folder as a user would."""
    loading = json.loads((folder / "loading.json").read_text())
    before = os.getcwd()
    os.chdir(folder)
    try:
        names: dict[str, Any] = {"loading": loading}
        exec("\n".join(loading["python"]), names)
        return names
    finally:
        os.chdir(before)


def network_input(folder: Path, names: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] as the preprocessing record makes them, or the pixels that become them."""
    if "pixels of 0 to 255" not in names["loading"]["input"]:
        return image
    record = json.loads((folder / "preprocessing.json").read_text())
    values = image.astype(np.float64) * record["std"] + record["mean"]
    return (values / record["scale"]).astype(np.float32)


def main(logits_of: Callable[[str, Path, np.ndarray], np.ndarray]) -> None:
    case, folder, image, output = arguments()
    logits = np.asarray(logits_of(case, folder, image), np.float32)
    np.savez(output, logits=logits.reshape(len(image), -1))
