"""Finds the networks of one environment: `torch_nets.py` and every `torch_<family>.py` beside it, by their NETS."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Callable

HERE = Path(__file__).resolve().parent


def load(environment: str) -> dict[str, Callable[[], Any]]:
    """Fixture name -> function that makes its Net, of every family module of the environment."""
    nets: dict[str, Callable[[], Any]] = {}
    for path in sorted(HERE.glob(f"{environment}_*.py")):
        found = getattr(importlib.import_module(path.stem), "NETS", {})
        doubled = nets.keys() & found.keys()
        assert not doubled, f"{path.name}: {doubled} are there already"
        nets |= found
    return nets


def main_arguments(nets: dict[str, Callable[[], Any]]) -> list[str] | None:
    """What a parity script was called with; `--list` prints the names instead, and gives None."""
    if sys.argv[1:] == ["--list"]:
        print("\n".join(nets))
        return None
    return sys.argv[1:]
