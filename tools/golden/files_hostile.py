"""HDF5 files that point out of themselves or at themselves: `python files_hostile.py` (environment tf)."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

FOLDER = Path(__file__).parents[2] / "test" / "weights" / "fixtures"


def main() -> None:
    with h5py.File(FOLDER / "external-storage.h5", "w") as file:
        file.create_dataset("secret", (4,), dtype="<f4", external=[("/etc/passwd", 0, 16)])
    with h5py.File(FOLDER / "virtual.h5", "w", libver="latest") as file:
        layout = h5py.VirtualLayout((4,), "<f4")
        layout[:] = h5py.VirtualSource("/tmp/other.h5", "y", (4,))
        file.create_virtual_dataset("virtual", layout)
    with h5py.File(FOLDER / "loop.h5", "w") as file:
        group = file.create_group("group")
        group["up"] = file["/"]
        group["here"] = group
        group["numbers"] = np.ones(3, "f4")
    with h5py.File(FOLDER / "unwritten.h5", "w") as file:  # 1.6 GB declared, none of it in the file
        file.create_dataset("zeros", (400_000_000,), dtype="<f4", chunks=(1_000_000,), compression="gzip")


if __name__ == "__main__":
    main()
