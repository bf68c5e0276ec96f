"""torchvision's and timm's networks: models, canonical taps, weight rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Sequence

import numpy as np
import timm
import torch
import torchvision
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual

from generator import Row, row, tensor_of, training_row
from store import CASES, SIZES, TRAIN_INPUT

torch.set_num_threads(2)


RowOf = Callable[[str, Sequence[int]], Row]


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
    auxiliary: dict[str, float] = field(default_factory=dict)
    """Last layer of each auxiliary classifier in training -> share of its loss in the whole."""
    smooth: bool = False
    """Whether its activations have no kinks, so that a training fixture needs no weights that keep away from them."""
    training_row: Callable[[Row, bool], Row] = training_row
    """A tensor's row in the training fixture, by that of the forward one and whether it is a norm's."""
    row_of: RowOf | None = None
    """Distribution of a tensor by its name and shape, where the roles known here are not enough."""


def last_norms(model) -> set[str]:
    """Names of the norms that end a residual branch."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, (torchvision.models.resnet.Bottleneck, timm.models.resnet.Bottleneck)):
            found.add(f"{name}.bn3")
        elif isinstance(module, torchvision.models.resnet.BasicBlock):
            found.add(f"{name}.bn2")
        elif isinstance(module, torchvision.models.mobilenetv2.InvertedResidual):
            found.add(f"{name}.conv.{len(module.conv) - 1}")
        elif isinstance(
            module, (torchvision.models.efficientnet.MBConv, torchvision.models.mobilenetv3.InvertedResidual)
        ):
            found.add(f"{name}.block.{len(module.block) - 1}.1")
        elif isinstance(module, InvertedResidual):
            found.add(f"{name}.bn3")
        elif isinstance(module, DepthwiseSeparableConv) and isinstance(module.bn2.act, torch.nn.Identity):
            found.add(f"{name}.bn2")
    return found


NORMS = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.LayerNorm, torch.nn.GroupNorm)


def rows(model, classifier: str, prefix: str = "", row_of: RowOf | None = None) -> list[Row]:
    """One row a floating-point tensor of the state dict, in its own order, without `prefix`."""
    if row_of is not None:
        return [row_of(name.removeprefix(prefix), value.shape) for name, value in model.state_dict().items()]
    modules, last = dict(model.named_modules()), last_norms(model)
    has = lambda kind: any(isinstance(m, kind) for m in modules.values())  # noqa: E731
    offsets = "_relu6" if has(torch.nn.ReLU6) else "_hard" if has(torch.nn.Hardswish) else ""
    of = []
    for name, value in model.state_dict().items():
        owner, leaf = name.rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        if isinstance(modules[owner], NORMS):
            cut = offsets if owner not in last else ""
            gamma = "gamma_last" if owner in last else f"gamma{cut}"
            role = {"weight": gamma, "bias": f"beta{cut}", "running_mean": "mean", "running_var": "variance"}[leaf]
        elif leaf in ("gamma", "layer_scale"):
            role = "gamma"
        elif leaf == "bias":
            gate = offsets == "_hard" and owner.endswith((".fc2", ".conv_expand"))
            role = "bias_gate" if gate else "bias"
        else:
            role = "classifier_oi" if owner == classifier else "kernel_oihw"
        of.append(row(name.removeprefix(prefix), value.shape, role))
    return of


def set_weights(
    model,
    classifier: str,
    prefix: str = "",
    training: Callable[[Row, bool], Row] | None = None,
    row_of: RowOf | None = None,
) -> list[Row]:
    """Fills the model by the generator; `training` gives the rows of weights that keep away from the kinks of relu."""
    of = rows(model, classifier, prefix, row_of)
    if training:
        norms = {n for n, m in model.named_modules() if isinstance(m, NORMS)}
        of = [training(r, f"{prefix}{r[0]}".rsplit(".", 1)[0] in norms) for r in of]
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
            value = output.detach()
            values.setdefault(tap, (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).numpy().copy())

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
