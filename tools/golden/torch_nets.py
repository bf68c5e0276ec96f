"""torchvision's and timm's networks: models, canonical taps, weight rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np
import timm
import torch
import torchvision
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual

from generator import Row, row, tensor_of, training_row
from store import CASES, SIZES, TRAIN_INPUT

torch.set_num_threads(2)


@dataclass
class Net:
    """A backbone: how to build it, and the modules whose outputs are the canonical taps."""

    backbone: str
    source: str
    file: str
    """Middle part of the fixture's file name: the source, or the package where torchvision and timm both have it."""
    reference: str
    build: Callable[[], torch.nn.Module]
    taps: Callable[[torch.nn.Module], dict[str, torch.nn.Module]]
    """Canonical tap -> module; pre_logits is the classifier's input."""
    classifier: str
    committed: bool = False
    """Whether its forward fixture is committed; all are compared at real size by `npm run parity`."""
    trained: bool = False
    """Whether its training fixture is committed."""
    cases: Sequence[Sequence[int]] = CASES
    """Input shapes of the forward fixture."""
    sizes: Sequence[int] = SIZES
    """Input sizes of the comparison at real size."""
    train_input: Sequence[int] = TRAIN_INPUT
    """Input shape of the training fixture."""


def resnet50() -> Net:
    def taps(model):
        of = {"stem": model.relu, "stem.pool": model.maxpool}
        for s in range(1, 5):
            for b, block in enumerate(getattr(model, f"layer{s}"), start=1):
                of[f"stage{s}.block{b}"] = block
        return of

    reference = f"torchvision {torchvision.__version__} resnet50, torch {torch.__version__}"
    build = lambda: torchvision.models.resnet50()  # noqa: E731
    return Net("resnet50", "torch", "torch", reference, build, taps, "fc", committed=True, trained=True)


def mobilenet_v2() -> Net:
    def taps(model):
        of = {"stem": model.features[0]}
        of |= {f"block{i}": model.features[i + 1] for i in range(17)}
        return of | {"top": model.features[18]}

    reference = f"torchvision {torchvision.__version__} mobilenet_v2, torch {torch.__version__}"
    build = lambda: torchvision.models.mobilenet_v2()  # noqa: E731
    name = "mobilenet_v2_1.0"
    return Net(name, "torch", "torch", reference, build, taps, "classifier.1", committed=True, trained=True)


def timm_mobilenet(version: int, width: str, file: str) -> Net:
    name = f"mobilenetv{version}_{round(100 * float(width)):03d}"

    def taps(model):
        blocks = [block for stage in model.blocks for block in stage]
        first = 2 - version  # v1's blocks count from 1, v2's from 0
        of = {"stem": model.bn1} | {f"block{i}": block for i, block in enumerate(blocks, start=first)}
        return of | ({"top": model.bn2} if version == 2 else {})

    reference = f"timm {timm.__version__} {name}, torch {torch.__version__}"
    build = lambda: timm.create_model(name)  # noqa: E731
    return Net(f"mobilenet_v{version}_{width}", "torch", file, reference, build, taps, "classifier", committed=True)


NETS: dict[str, Callable[[], Net]] = {
    "resnet50.torch": resnet50,
    "mobilenet_v2_1.0.torch": mobilenet_v2,
    "mobilenet_v1_1.0.torch": lambda: timm_mobilenet(1, "1.0", "torch"),
    "mobilenet_v2_1.0.timm": lambda: timm_mobilenet(2, "1.0", "timm"),
    "mobilenet_v2_0.5.timm": lambda: timm_mobilenet(2, "0.5", "timm"),
    "mobilenet_v2_1.4.timm": lambda: timm_mobilenet(2, "1.4", "timm"),
}


def last_norms(model) -> set[str]:
    """Names of the norms that end a residual branch."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            found.add(f"{name}.bn3")
        elif isinstance(module, torchvision.models.mobilenetv2.InvertedResidual):
            found.add(f"{name}.conv.{len(module.conv) - 1}")
        elif isinstance(module, InvertedResidual):
            found.add(f"{name}.bn3")
        elif isinstance(module, DepthwiseSeparableConv) and isinstance(module.bn2.act, torch.nn.Identity):
            found.add(f"{name}.bn2")
    return found


def rows(model, classifier: str, prefix: str = "") -> list[Row]:
    """One row a floating-point tensor of the state dict, in its own order, without `prefix`."""
    modules, last = dict(model.named_modules()), last_norms(model)
    relu6 = any(isinstance(m, torch.nn.ReLU6) for m in modules.values())
    of = []
    for name, value in model.state_dict().items():
        owner, leaf = name.rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        if isinstance(modules[owner], torch.nn.modules.batchnorm._BatchNorm):
            cut = "_relu6" if relu6 and owner not in last else ""
            gamma = "gamma_last" if owner in last else f"gamma{cut}"
            role = {"weight": gamma, "bias": f"beta{cut}", "running_mean": "mean", "running_var": "variance"}[leaf]
        elif leaf == "bias":
            role = "bias"
        else:
            role = "classifier_oi" if owner == classifier else "kernel_oihw"
        of.append(row(name.removeprefix(prefix), value.shape, role))
    return of


def set_weights(model, classifier: str, prefix: str = "", training: bool = False) -> list[Row]:
    """Fills the model by the generator."""
    of = rows(model, classifier, prefix)
    if training:
        norms = {n for n, m in model.named_modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
        of = [training_row(r, f"{prefix}{r[0]}".rsplit(".", 1)[0] in norms) for r in of]
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    values = {name: torch.from_numpy(tensor_of(r)) for name, r in zip(names, of, strict=True)}
    missing, extra = model.load_state_dict(values, strict=False)
    assert not extra and all(name.endswith("num_batches_tracked") for name in missing)
    return of


def nchw(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))


def forward(net: Net, model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every tap as NHWC, pre_logits [N, C] and logits [N, 1000], in inference mode."""
    values: dict[str, np.ndarray] = {}

    def keep(tap):
        def hook(module, inputs, output):
            # resnet's blocks share one in-place relu: only its first call is the stem's.
            values.setdefault(tap, output.detach().permute(0, 2, 3, 1).numpy().copy())

        return hook

    hooks = [module.register_forward_hook(keep(tap)) for tap, module in net.taps(model).items()]
    head = model.get_submodule(net.classifier)
    hooks.append(head.register_forward_pre_hook(lambda m, inputs: values.update(pre_logits=inputs[0].numpy().copy())))
    model.eval()
    with torch.no_grad():
        values["logits"] = model(nchw(image)).numpy()
    for hook in hooks:
        hook.remove()
    return values
