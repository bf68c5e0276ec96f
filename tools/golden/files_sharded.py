"""Weights in several files with an index, written by huggingface_hub: test/golden/fixtures/files/sharded/, with sharded.json."""

from __future__ import annotations

import shutil

import huggingface_hub
from huggingface_hub import save_torch_state_dict

from files_torch import tiny_state
from tiny import FOLDER, file_entry, tensor_entry, write_index

SHARD_BYTES = 300
"""The tiny network is then in three shards."""


def main() -> None:
    folder = FOLDER / "sharded"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    state = {name: value for name, value in tiny_state().items()}
    # the reader finds them by shard, in the order of each
    entries = [tensor_entry(name, value.numpy()) for name, value in state.items()]
    files = []
    for safe, name, about in (
        (True, "model.safetensors.index.json", "safetensors in shards"),
        (False, "pytorch_model.bin.index.json", "state dicts of PyTorch in shards"),
    ):
        save_torch_state_dict(state, folder, max_shard_size=SHARD_BYTES, safe_serialization=safe)
        files.append(file_entry(f"sharded/{name}", about, entries))
    write_index("sharded", f"huggingface_hub {huggingface_hub.__version__}", files)


if __name__ == "__main__":
    main()
