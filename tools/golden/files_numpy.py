"""Reader fixtures of every kind of array, written by numpy 2 and ml_dtypes: test/golden/fixtures/files/, with numpy2.json."""

from __future__ import annotations

import io
import zipfile

import ml_dtypes
import numpy as np

from generator import row, tensor, tensor_of
from tiny import FOLDER, file_entry, tensor_entry, write_index

HALVES = np.array([0.0, -0.0, 2.0**-24, 1023 * 2.0**-24, 2.0**-14, 1 / 3, 65504, -65504, np.inf, -np.inf], np.float16)
"""Zeros, the ends of the subnormals, the smallest normal number, a rounded one, the largest, infinities."""


def big(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder(">"))


def counted(dtype, *shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


def kinds() -> dict[str, np.ndarray]:
    cube = tensor("cube", [2, 3, 4])
    return {
        "float16": HALVES,
        "float16 big": big(HALVES),
        "float32": tensor("float32", [3, 5]),
        "float32 big": big(tensor("float32 big", [3, 5])),
        "float64": tensor("float64", [7]).astype(np.float64) / 3,
        "float64 big": big(tensor("float64 big", [7]).astype(np.float64) / 3),
        "bfloat16": tensor("bfloat16", [2, 9]).astype(ml_dtypes.bfloat16),
        "int8": np.array([-128, 0, 127], np.int8),
        "uint8": np.array([0, 255], np.uint8),
        "int16 big": big(np.array([-32768, 258], np.int16)),
        "uint16": np.array([65535, 258], np.uint16),
        "int32": np.array([-(2**31), 2**31 - 1], np.int32),
        "uint32 big": big(np.array([2**32 - 1, 66051], np.uint32)),
        "int64": np.array([-(2**63), 2**53 + 1], np.int64),
        "uint64": np.array([2**64 - 1, 3], np.uint64),
        "bool": np.array([[True, False], [False, True]]),
        "scalar": np.array(0.1, np.float32),
        "scalar int": np.array(123456, np.int64),
        "empty": np.zeros((0, 4), np.float32),
        "empty fortran": np.zeros((3, 0, 2), np.float32, order="F"),
        "fortran": np.asfortranarray(cube),
        "fortran half": np.asfortranarray(cube.astype(np.float16)),
        "fortran double big": np.asfortranarray(big(cube.astype(np.float64))),
        "fortran bfloat16": np.asfortranarray(cube.astype(ml_dtypes.bfloat16)),
        "transposed": cube.transpose(2, 1, 0),
        "strided": cube[:, ::2],
        "größe/κernel": tensor("unicode", [2, 2]),
    }


def dtype_of(values: np.ndarray) -> str:
    return values.dtype.newbyteorder("=").name


def entries_of(arrays: dict[str, np.ndarray]) -> list[dict]:
    return [tensor_entry(name, values, dtype_of(values)) for name, values in arrays.items()]


def refused() -> dict[str, np.ndarray]:
    return {
        "objects": np.array([{"a": 1}, None], object),
        "text": np.array(["resnet", "vit"]),
        "bytes": np.array([b"resnet"]),
        "structure": np.zeros(2, [("mean", "<f4"), ("größe", "<i4")]),  # its header is of version 3
        "raw": np.zeros(2, "V5"),
        "float8": np.ones(2, ml_dtypes.float8_e4m3fn),
        "date": np.array(["2026-01-01"], "M8[D]"),
        "time": np.array([3], "m8[s]"),
    }


def versions(path, arrays: dict[str, np.ndarray]) -> None:
    """A header of each version, and one whose shape Python 2 wrote with long integers."""
    with zipfile.ZipFile(path, "w") as archive:
        for (name, values), version in zip(arrays.items(), [(1, 0), (2, 0), (3, 0), None]):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, values, version or (1, 0))
            data = stream.getvalue()
            if version is None:
                data = data.replace(b"(2, 3), ", b"(2L, 3L),").replace(b"  \n", b" \n", 1)
                assert np.array_equal(np.lib.format.read_array(io.BytesIO(data)), values)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data)


def zip64(path, arrays: dict[str, np.ndarray]) -> None:
    """Everything in 64 bits, as zipfile writes what is larger than 4 GiB: entries, central directory, and its end."""
    limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    zipfile.ZIP64_LIMIT = zipfile.ZIP_FILECOUNT_LIMIT = -1
    try:
        np.savez(path, **arrays)
    finally:
        zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits


def big_vision() -> dict[str, np.ndarray]:
    """As big_vision's save_checkpoint flattens its state: parameters, the optimiser's state, and a stopwatch."""
    of = {
        "params/embedding/kernel": tensor_of(row("embedding/kernel", [2, 2, 3, 8], "kernel")),
        "params/embedding/bias": tensor_of(row("embedding/bias", [8], "bias")),
        "params/head/kernel": tensor_of(row("head/kernel", [8, 3], "classifier")),
        "opt/0/count": np.array(5, np.int32),
        "opt/0/mu/embedding/kernel": tensor("mu", [2, 2, 3, 8]).astype(ml_dtypes.bfloat16),
        "chrono/accum_train_time": np.array(1.5, np.float64),
    }
    return of


def main() -> None:
    files = []
    of = kinds()
    stored, deflated = FOLDER / "numpy-kinds.npz", FOLDER / "numpy-kinds-deflated.npz"
    np.savez(stored, **of)
    np.savez_compressed(deflated, **of)
    files.append(file_entry(stored.name, "every type, order and shape, stored", entries_of(of)))
    files.append(file_entry(deflated.name, "the same, deflated", entries_of(of)))

    of = {f"version {name}": tensor(name, [2, 3]) for name in ("1", "2", "3", "1 of Python 2")}
    path = FOLDER / "numpy-versions.npz"
    versions(path, of)
    files.append(file_entry(path.name, "headers of versions 1, 2 and 3", entries_of(of)))

    of = {"a/kernel": tensor("a/kernel", [3, 4]), "a/bias": tensor("a/bias", [4])}
    path = FOLDER / "numpy-zip64.npz"
    zip64(path, of)
    with np.load(path) as read:
        assert all(np.array_equal(read[name], values) for name, values in of.items())
    files.append(file_entry(path.name, "zip64 in its entries, its directory and the directory's end", entries_of(of)))

    of = big_vision()
    path = FOLDER / "numpy-bigvision.npz"
    np.savez(path, **of)
    files.append(file_entry(path.name, "names as big_vision's checkpoints have them", entries_of(of)))

    good = {"kernel": tensor("kernel", [2, 2])}
    path = FOLDER / "numpy-beside.npz"
    np.savez(path, **good, **refused())
    files.append(file_entry(path.name, "an array beside what is none of numbers", entries_of(good)))
    write_index("numpy2", f"numpy {np.__version__}", files)

    # longer than a reader's pieces and of no round length; element i is i modulo 251
    np.savez_compressed(
        FOLDER / "numpy-long.npz",
        float32=counted(np.float32, 701, 1001),
        half=counted(np.float16, 1300003),
        **{"fortran double": np.asfortranarray(big(counted(np.float64, 11, 7, 2003)))},
    )

    # what no float32 holds: refused, so that nothing is listed for them
    np.savez(FOLDER / "numpy-longdouble.npz", **{"head/kernel": np.ones((2, 2), np.longdouble)})
    np.savez(FOLDER / "numpy-complex.npz", spectrum=np.ones(2, np.complex64))
    np.savez(FOLDER / "numpy-objects.npz", np.array({"head/kernel": good["kernel"]}, object))  # a dictionary of arrays


if __name__ == "__main__":
    main()
