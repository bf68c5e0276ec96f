"""PyTorch's side of a case, in its channels-last layout: `torch_side.py` reads a task (JSON) and tells a record."""

from __future__ import annotations

import re

import numpy as np
import timm
import torch
import torchvision

from generator import input_batch, tensor
from side import python, read_task, tell, time_steps


def vit_b16(rows: list) -> torch.nn.Module:
    model = timm.create_model("vit_base_patch16_224", num_classes=0)
    model.load_state_dict({name: torch.from_numpy(tensor(name, *rest)) for name, *rest in rows})
    return model


def resnet50(rows: list) -> torch.nn.Module:
    model = torchvision.models.resnet50()
    model.fc = torch.nn.Identity()
    load(model, {name: tensor(name, *rest) for name, *rest in rows})
    return model


def keras_resnet50(rows: list) -> torch.nn.Module:
    """Keras' function of ResNet-50: biases before batch norms, the stride in the first convolution, its own epsilon."""
    model = torchvision.models.resnet50()
    model.fc = torch.nn.Identity()
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1.001e-5
        if isinstance(module, torch.nn.Conv2d):
            module.bias = torch.nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    leaf = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
            "moving_variance": "running_var"}  # fmt: skip
    values = {}
    for name, *rest in rows:
        owner, last = name.split("/")
        value = tensor(name, *rest)
        values[f"{torch_name(owner)}.{leaf.get(last, last)}"] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    load(model, values)
    return model


def torch_name(layer: str) -> str:
    """torchvision's name of a layer of Keras' ResNet: `conv2_block1_0_conv` is `layer1.0.downsample.0`."""
    if layer.startswith("conv1_"):
        return layer.replace("conv1_conv", "conv1").replace("conv1_bn", "bn1")
    stage, block, place, kind = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer).groups()
    inner = f"downsample.{int(kind == 'bn')}" if place == "0" else f"{kind}{place}"
    return f"layer{int(stage) - 1}.{int(block) - 1}.{inner}"


def load(model: torch.nn.Module, values: dict[str, np.ndarray]) -> None:
    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}
    missing, extra = model.load_state_dict(state, strict=False)
    assert not extra and all(name.endswith("num_batches_tracked") for name in missing), (missing, extra)


BODIES = {"ResNet50": keras_resnet50, "resnet50.torch": resnet50, "vit_b16.timm": vit_b16}


def body_and_images(task: dict) -> tuple[torch.nn.Module, torch.Tensor]:
    of = task["case"]
    model = BODIES[of["network"]["reference"]](task["rows"]["body"])
    images = torch.from_numpy(input_batch([of["batch"], of["side"], of["side"], 3]))
    return model.to(memory_format=torch.channels_last), images.permute(0, 3, 1, 2)  # lies channels last as it is


def step(task: dict):
    of = task["case"]
    body, images = body_and_images(task)
    kernel, bias = (torch.from_numpy(tensor(*row)) for row in task["rows"]["head"])
    head = torch.nn.Linear(*kernel.shape)
    head.load_state_dict({"weight": kernel.T, "bias": bias})
    model = torch.nn.Sequential(body, head).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=of["lr"], eps=1e-7)  # Keras' epsilon
    labels = torch.arange(of["batch"]) % of["classes"]

    def one() -> list[float]:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return [loss.item()]

    return one


def forward(task: dict):
    body, images = body_and_images(task)
    body.eval()

    def one() -> np.ndarray:
        with torch.inference_mode():
            return body(images).numpy()

    return one


WORKS = {"step": step, "forward": forward}

if __name__ == "__main__":
    task = read_task()
    torch.set_num_threads(task["threads"])
    runs = f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__} ({python()})"
    tell({**time_steps(task, WORKS[task["case"]["work"]](task)), "runs": runs})
