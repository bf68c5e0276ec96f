"""Exported torch weights in torchvision or timm (see roundtrip.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from roundtrip import main, network_input, run_lines


def logits(case: str, folder: Path, image: np.ndarray) -> np.ndarray:
    names = run_lines(folder)
    image = network_input(folder, names, image)
    with torch.no_grad():
        return names["model"](torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))).numpy()


if __name__ == "__main__":
    main(logits)
