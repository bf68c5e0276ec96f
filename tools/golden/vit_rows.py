"""How the generated weights of vision transformers are distributed, whatever a framework calls and lays them out.

They are made so that each constant of the architecture shows in the outputs:

  embedding   small, so that the first layer norm's variance is near its epsilon of 1e-6
  queries and keys   of unit size, so that attention is neither even nor a choice of one
  the MLP's biases   near -2, where the two forms of GELU differ most: by one part in a hundred of the value
  standardised kernels   small and off centre, so that their epsilon is a part of their deviation
"""

from __future__ import annotations

import math
from typing import Sequence

from generator import Row, row

EMBEDDING = 0.03


def uniform(name: str, shape: Sequence[int], center: float, scale: float) -> Row:
    return (name, [int(n) for n in shape], center, float(f"{scale:.7g}"))


def kernel(name: str, shape: Sequence[int], fan_in: int, gain: float = 1.0) -> Row:
    """Keeps the variance of what it is applied to, times the square of `gain`."""
    return uniform(name, shape, 0.0, gain * math.sqrt(3 / fan_in))


def vit_row(role: str, name: str, shape: Sequence[int], fan_in: int = 1) -> Row:
    if role == "patches":
        return kernel(name, shape, fan_in, 3 * EMBEDDING)
    if role in ("token", "position"):
        return uniform(name, shape, 0.0, EMBEDDING)
    if role == "patches_bias":
        return uniform(name, shape, 0.0, EMBEDDING / 3)
    if role == "hybrid_patches":  # of rectified sums, which grow along a stage
        return kernel(name, shape, fan_in, EMBEDDING)
    if role == "attention":
        return kernel(name, shape, fan_in)
    if role == "expand":
        return kernel(name, shape, fan_in, 0.3)
    if role == "expand_bias":
        return uniform(name, shape, -2.0, 0.5)
    if role == "project":
        return kernel(name, shape, fan_in, 10.0)
    if role == "standardised":
        return uniform(name, shape, 1e-4, 2e-4)
    if role == "head":
        return kernel(name, shape, fan_in)
    return row(name, shape, role)  # gamma, gamma_last, beta, bias
