"""Training fixture of torchvision's resnet50: `python train_torch.py [fixture ...]`.

As train_keras.py, with PyTorch's own: CrossEntropyLoss(label_smoothing), Adam (epsilon 1e-8), batch normalisation
that keeps the unbiased variance with momentum 0.1.
"""

from __future__ import annotations

import sys

import torch
import torchvision

from families import load
from generator import input_batch
from store import LABEL_SMOOTHING, TRAIN_CLASSES, train_fixture
from torch_nets import nchw, set_weights

NETS = load("torch")

def run(name: str, dtype: torch.dtype, steps: int):
    """Rows, losses, first gradients and first running statistics, by published name; the optimiser."""
    net = NETS[name]()
    body = net.build()
    # The published classifier goes; the new one is called head, in rows and gradients alike.
    owner, _, leaf = net.classifier.rpartition(".")
    channels = body.get_submodule(net.classifier).in_features
    setattr(body.get_submodule(owner), leaf, torch.nn.Identity())
    auxiliary: dict[str, torch.Tensor] = {}
    for path in net.auxiliary:
        owner, _, leaf = path.rpartition(".")
        last = torch.nn.Linear(body.get_submodule(path).in_features, TRAIN_CLASSES)
        last.register_forward_hook(lambda m, inputs, logits, path=path: auxiliary.update({path: logits}))
        setattr(body.get_submodule(owner), leaf, last)
    for module in body.modules():
        if isinstance(module, (torch.nn.Dropout, torchvision.ops.StochasticDepth)):
            module.p = 0.0
    model = torch.nn.ModuleDict({"body": body, "head": torch.nn.Linear(channels, TRAIN_CLASSES)})
    of = set_weights(model, "head", prefix="body.", training=None if net.smooth else net.training_row, row_of=net.row_of)
    model.to(dtype).train()

    image, labels = nchw(input_batch(net.train_input)).to(dtype), torch.arange(net.train_input[0]) % TRAIN_CLASSES
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses, gradients, statistics = [], {}, {}
    for k in range(steps):
        adam.zero_grad()
        loss = loss_of(model["head"](model["body"](image)), labels)
        loss = loss + sum(share * loss_of(auxiliary[path], labels) for path, share in net.auxiliary.items())
        loss.backward()
        adam.step()
        losses.append(float(loss))
        if k == 0:
            gradients = {n.removeprefix("body."): p.grad.numpy().copy() for n, p in model.named_parameters()}
            statistics = {
                n.removeprefix("body."): b.numpy().copy()
                for n, b in model.named_buffers()
                if n.endswith(("running_mean", "running_var"))
            }
    return of, losses, gradients, statistics, adam


def main(names: list[str]) -> None:
    torch.use_deterministic_algorithms(True)
    for name in names or [name for name, make in NETS.items() if make().trained]:
        net = NETS[name]()
        of, losses, gradients, statistics, adam = run(name, torch.float32, 10)
        exact = run(name, torch.float64, 1)[2]
        (group,) = adam.param_groups
        settings = {"lr": group["lr"], "beta1": group["betas"][0], "beta2": group["betas"][1], "epsilon": group["eps"]}
        train_fixture(
            *(net.backbone, net.source, net.reference, of, net.train_input, settings),
            *(losses, gradients, statistics, exact, net.auxiliary),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
