"""Fixtures of numbers brought to another network shape: test/golden/fixtures/adapt.json.

  positions  a position embedding on another grid, the class token kept: timm's resample_abs_pos_embed (PyTorch's
             bicubic interpolation with antialiasing), and scipy.ndimage.zoom(order=1) as Google's checkpoint.py calls
             it (vision_transformer/vit_jax/checkpoint.py, interpolate_posembed); PyTorch's bicubic interpolation as
             torchvision's interpolate_embeddings calls it
  kernels    a first convolution on another number of channels: timm's adapt_input_conv

The numbers that go in are the generator's, called `position` and `kernel`.
"""

from __future__ import annotations

import numpy as np
import scipy
import scipy.ndimage
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models._manipulate import adapt_input_conv

from generator import tensor
from store import FIXTURES, full, write_json

DEPTH = 3

# (tokens before the grid, stored grid, wanted grid): larger, smaller, one side each, one row, no class token.
GRIDS = [
    (1, (3, 3), (5, 5)),
    (1, (7, 7), (4, 4)),
    (1, (7, 7), (12, 3)),
    (1, (4, 4), (2, 9)),
    (1, (4, 4), (4, 6)),
    (0, (5, 5), (1, 8)),
]

# [height, width, in, out] and the channels asked for; timm has no rule for going from one channel to three.
KERNELS = [((2, 3, 3, 4), 1), ((2, 3, 3, 4), 4)]


def bicubic(stored: np.ndarray, before: int, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    result = resample_abs_pos_embed(torch.from_numpy(stored)[None], new, old, before)
    return result[0].numpy()


def linear(stored: np.ndarray, before: int, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    grid = stored[before:].reshape(*old, DEPTH)
    zoomed = scipy.ndimage.zoom(grid, (new[0] / old[0], new[1] / old[1], 1), order=1)
    assert zoomed.shape == (*new, DEPTH)
    return np.concatenate([stored[:before], zoomed.reshape(-1, DEPTH)])


def corners(stored: np.ndarray, before: int, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    grid = torch.from_numpy(stored[before:].astype(np.float64)).T.reshape(1, DEPTH, *old)  # float32 would round places
    resampled = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", align_corners=True)
    return np.concatenate([stored[:before], resampled.reshape(DEPTH, -1).T.numpy()])


RESAMPLINGS = {"bicubic_antialias": bicubic, "linear_corners": linear, "bicubic_corners": corners}


def main() -> None:
    positions = []
    for before, old, new in GRIDS:
        stored = tensor("position", [before + old[0] * old[1], DEPTH])
        for name, resample in RESAMPLINGS.items():
            expected = full(resample(stored, before, old, new))
            positions.append({"before": before, "grid": old, "wanted": new, "resampling": name, "expected": expected})
    kernels = []
    for shape, channels in KERNELS:
        kernel = torch.from_numpy(tensor("kernel", shape)).permute(3, 2, 0, 1).contiguous()
        expected = full(adapt_input_conv(channels, kernel).permute(2, 3, 1, 0).numpy())
        kernels.append({"shape": shape, "channels": channels, "expected": expected})
    reference = f"torch {torch.__version__.split('+')[0]}, timm {timm.__version__}, scipy {scipy.__version__}"
    write_json(FIXTURES / "adapt.json", {"reference": reference, "positions": positions, "kernels": kernels})


if __name__ == "__main__":
    main()
