"""Cross-check of the generator: a few tensors in full, for the other implementation of it (test/support/golden.ts)."""

from __future__ import annotations

from generator import fnv1a32, tensor
from store import full, write_json

TENSORS = (
    ("input", [2, 3, 4, 3], 0.0, 1.0),
    ("conv2_block1_1_conv/kernel", [1, 1, 8, 4], 0.0, 0.3061862),
    ("layer1.0.bn1.running_var", [16], 1.0, 0.5),
    ("", [5], 0.0, 1.0),
    ("Größe/核", [7], -3.0, 1e-3),
    ("scalar", [], 0.5, 0.25),
)


def main() -> None:
    vectors = [
        {"name": name, "center": center, "scale": scale, "hash": fnv1a32(name), **full(tensor(name, shape, center, scale))}
        for name, shape, center, scale in TENSORS
    ]
    write_json("generator.json", {"vectors": vectors})


if __name__ == "__main__":
    main()
