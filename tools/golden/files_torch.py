"""Reader fixtures written by torch and safetensors: test/golden/fixtures/files/, with torch.json."""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file, save_model

from generator import row, tensor, tensor_of
from tiny import FOLDER, file_entry, tensor_entry, write_index

DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int16: "int16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.bool: "bool",
}


class Tiny(torch.nn.Module):
    """The tiny network in torch's layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.dw2 = torch.nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(4)
        self.conv2 = torch.nn.Conv2d(4, 5, 1)
        self.fc = torch.nn.Linear(5, 3)


def tiny_state() -> "collections.OrderedDict[str, torch.Tensor]":
    """A module's own state dict: an OrderedDict with `_metadata`, num_batches_tracked as int64 scalars."""
    module = Tiny()
    roles = {"weight": "kernel_oihw", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
    with torch.no_grad():
        for name, value in module.state_dict().items():
            owner, leaf = name.split(".")
            if leaf == "num_batches_tracked":
                value.fill_(7)
                continue
            role = "gamma" if owner.startswith("bn") and leaf == "weight" else roles[leaf]
            value.copy_(torch.from_numpy(tensor_of(row(name, value.shape, role))))
    return module.state_dict()


def every_kind() -> "collections.OrderedDict[str, torch.Tensor]":
    """Every dtype, and every way a tensor can lie in its storage."""

    def t(name: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(tensor(name, shape))

    base = t("base", 6, 8)
    return collections.OrderedDict(
        [
            ("float32", t("float32", 2, 3)),
            ("float64", t("float64", 3).double()),
            ("float16", t("float16", 2, 5).half()),
            ("bfloat16", t("bfloat16", 2, 5).bfloat16()),
            ("int64", torch.tensor([-3, 0, 1 << 20])),
            ("int32", torch.tensor([[1, -2]], dtype=torch.int32)),
            ("uint8", torch.tensor([0, 128, 255], dtype=torch.uint8)),
            ("bool", torch.tensor([True, False, True])),
            ("scalar", torch.tensor(0.25)),
            ("empty", torch.zeros(0, 3)),
            ("transposed", t("transposed", 4, 3).t()),
            ("channels_last", t("channels_last", 2, 3, 4, 5).contiguous(memory_format=torch.channels_last)),
            ("base", base),
            ("rows", base[2:4]),
            ("columns", base[:, 1::3]),
            ("expanded", t("expanded", 1, 3).expand(4, 3)),
            ("parameter", torch.nn.Parameter(t("parameter", 2, 2))),
            ("tied", base),
        ]
    )


def entries(state, prefix: str = "") -> list[dict]:
    found = []
    for name, value in state.items():
        numbers = value.detach().to(torch.float32).contiguous().numpy()
        found.append(tensor_entry(prefix + name, numbers, DTYPES[value.dtype]))
    return found


def every_type() -> dict[str, torch.Tensor]:
    """The dtypes that `every_kind` lacks, and tensors with attributes of their own."""
    state = {
        "int8": torch.tensor([-128, 127], dtype=torch.int8),
        "int16": torch.tensor([-32768, 32767], dtype=torch.int16),
        "attribute": torch.from_numpy(tensor("attribute", [2, 3])),
        "parameter": torch.nn.Parameter(torch.from_numpy(tensor("parameter", [4]))),
        "buffer": torch.nn.Buffer(torch.from_numpy(tensor("buffer", [3]))),
        "slice": torch.from_numpy(tensor("sliced", [5, 4, 3]))[1:4, ::2, 1],
        "axes": torch.from_numpy(tensor("permuted", [2, 3, 4])).permute(2, 0, 1),
        "zero": torch.zeros(2, 0, 3),
    }
    state["attribute"].note = "mine"  # _rebuild_from_type_v2
    state["parameter"].note = "mine"  # _rebuild_parameter_with_state
    return state


def trainings() -> list[tuple[str, object, dict[str, torch.Tensor], str]]:
    """Whole checkpoints as the training scripts of timm and torchvision write them, after a step."""
    module = Tiny()
    module.load_state_dict(tiny_state())
    average = torch.optim.swa_utils.AveragedModel(module)
    averaged = {name: value * 0.5 if value.is_floating_point() else value for name, value in tiny_state().items()}
    average.module.load_state_dict(averaged)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 30)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    args = argparse.Namespace(model="tiny", lr=0.1, output_dir=pathlib.PurePosixPath("out"), betas=(0.9, 0.999))
    state = collections.OrderedDict((name, value.clone()) for name, value in tiny_state().items())
    timm = {
        "epoch": 3,
        "arch": "tiny",
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": args,
        "amp_scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "state_dict_ema": averaged,
        "metric": np.float64(71.5),
    }
    torchvision = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 3,
        "args": args,
        "model_ema": average.state_dict(),
        "best_acc1": torch.tensor(71.5),
    }
    both = lambda key: state | {f"{key}.{name}": value for name, value in averaged.items()}  # noqa: E731
    counted = both("model_ema") | {"model_ema.n_averaged": average.n_averaged}
    return [
        ("timm", timm, both("state_dict_ema"), "state_dict, state_dict_ema, a Namespace, a number of NumPy"),
        ("torchvision", torchvision, counted, "model, model_ema of an AveragedModel, a tensor beside them"),
        ("averages", {"epoch": 3, "state_dict_ema": averaged}, averaged, "averages alone"),
    ]


def refused() -> list[tuple[str, object, str, str, str]]:
    """What is no plain tensor: file, value, what it is, the error's code and what its message must say."""
    plain = torch.from_numpy(tensor("plain", [2, 3]))
    kinds = {
        "sparse": plain.to_sparse(),
        "csr": plain.to_sparse_csr(),
        "quantised": torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8),
        "complex64": torch.complex(plain, plain),
        "float8": plain.to(torch.float8_e4m3fn),
        "meta": torch.empty(2, 3, device="meta"),
    }
    words = {"csr": "sparse", "float8": "float8_e4m3fn", "meta": "without numbers"}
    found = [
        (f"torch-{kind}.pth", {"plain": plain, "odd": value}, kind, "DTYPE_UNSUPPORTED", f'"odd".*{words.get(kind, kind)}')
        for kind, value in kinds.items()
    ]
    Tiny.__module__ = "somewhere.models"
    sys.modules |= {"somewhere": types.ModuleType("somewhere"), "somewhere.models": sys.modules[__name__]}
    found.append(("torch-module.pth", Tiny(), "a whole module", "PICKLE_REFUSED", "somewhere.models.Tiny"))
    return found


class Hostile:
    """What an untrusted pickle can do: call any function while it is read. This one would only print."""

    def __reduce__(self):
        return (print, ("a pickle was executed",))


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = []

    def save(file: str, value, state, about: str, zipped: bool, prefix: str = "") -> None:
        torch.save(value, FOLDER / file, _use_new_zipfile_serialization=zipped)
        files.append(file_entry(file, about, entries(state, prefix)))

    tiny, kinds = tiny_state(), every_kind()
    module = collections.OrderedDict((f"module.{name}", value) for name, value in tiny.items())
    momentum = {"state": {0: {"exp_avg": torch.zeros(4), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    checkpoint = {"epoch": 3, "arch": "tiny", "best_acc1": 71.5, "state_dict": module, "optimizer": momentum}
    for zipped, kind in ((True, "zip"), (False, "legacy")):
        form = "zip" if zipped else "the older pickle stream"
        save(f"torch-{kind}.pth", tiny, tiny, f"a module's state dict, {form}", zipped)
        about = f"every dtype, views, shared storage, non-contiguous, a Parameter, {form}"
        save(f"torch-kinds-{kind}.pth", kinds, kinds, about, zipped)
        about = f"{{state_dict: {{module.*}}, optimizer, epoch, ...}}, {form}; names without the wrapping"
        save(f"torch-checkpoint-{kind}.pth", checkpoint, tiny, about, zipped)
        save(f"torch-model-{kind}.pth", {"model": dict(tiny)}, tiny, f"{{model: {{...}}}}, {form}", zipped)

    save("torch-types.pth", every_type(), every_type(), "more dtypes, attributes, slices and axes moved", True)
    for name, value, state, about in trainings():
        for zipped, kind in ((True, "zip"), (False, "legacy")):
            save(f"torch-{name}-{kind}.pth", value, state, f"{about}, {'zip' if zipped else 'stream'}", zipped)
    for protocol in (3, 4, 5):
        file = f"torch-protocol{protocol}.pth"
        torch.save(tiny, FOLDER / file, pickle_protocol=protocol)
        files.append(file_entry(file, f"pickle protocol {protocol}", entries(tiny)))
    for file, value, about, code, message in refused():
        torch.save(value, FOLDER / file)
        files.append(file_entry(file, about, [], refused={"code": code, "message": message}))
    script = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 1)))
    script.save(str(FOLDER / "torch-script.pt"))
    message = {"code": "TORCH_SCRIPT", "message": "TorchScript"}
    files.append(file_entry("torch-script.pt", "a program of TorchScript", [], refused=message))

    # Neither may be executed: a reader has to refuse both.
    with open(FOLDER / "torch-hostile-legacy.pth", "wb") as f:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"weight": Hostile()}):
            pickle.dump(part, f, protocol=2)
        pickle.dump([], f, protocol=2)
    with zipfile.ZipFile(FOLDER / "torch-hostile-zip.pth", "w") as z:
        stamp = lambda name: zipfile.ZipInfo(name)  # noqa: E731  (a fixed date)
        z.writestr(stamp("archive/data.pkl"), pickle.dumps({"weight": Hostile()}, protocol=2))
        z.writestr(stamp("archive/version"), "3\n")
    for kind in ("legacy", "zip"):
        files.append(file_entry(f"torch-hostile-{kind}.pth", "a pickle that calls a function", [], hostile=True))

    plain = {name: value.detach().contiguous().clone() for name, value in kinds.items()}
    save_file(plain, FOLDER / "kinds.safetensors", metadata={"format": "pt", "note": "every dtype"})
    # safetensors sorts by alignment, then by name.
    order = list(safetensors.safe_open(FOLDER / "kinds.safetensors", "pt").keys())
    files.append(file_entry("kinds.safetensors", "every dtype, with metadata", entries({n: plain[n] for n in order})))
    save_file({n: v.clone() for n, v in tiny.items()}, FOLDER / "tiny.safetensors")
    files.append(file_entry("tiny.safetensors", "the tiny network in torch's names, no metadata", entries(tiny)))
    tied = torch.nn.Module()
    tied.first = torch.nn.Linear(3, 2)
    tied.second = torch.nn.Linear(3, 2)
    tied.second.weight = tied.first.weight
    with torch.no_grad():
        for name, value in tied.named_parameters():
            value.copy_(torch.from_numpy(tensor(name, value.shape)))
    save_model(tied, str(FOLDER / "shared.safetensors"))
    about = "one tensor under two names, of which save_model keeps one"
    files.append(file_entry("shared.safetensors", about, entries(tied.state_dict())))
    writer = f"torch {torch.__version__}, safetensors {safetensors.__version__}"
    write_index("torch", writer, files)


if __name__ == "__main__":
    main()
