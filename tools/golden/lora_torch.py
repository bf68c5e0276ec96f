"""Low-rank adapters on timm's vit_tiny, and their gradients by PyTorch, for test/train/lora.test.ts.

h = W x + b + alpha / rank * B (A x), as peft's lora.Linear computes it, on the parts of timm's joined projection and on the
one after attention; everything but A, B and the head is frozen. A and B are tensors of generator.py by their paths in our
network, in our layout, and B is not zero: where it is, A has no gradient. In double precision: what is compared is float32.
"""

from __future__ import annotations

import timm
import torch
from generator import input_batch, row, tensor, tensor_of
from store import sampled, write_json
from torch import nn
from torch.nn import functional as F
from torch_vit import row_of

SIDE, CLASSES, KEPT = 32, 5, 96
INPUT = (3, SIDE, SIDE, 3)
#: rank, alpha, projections
CASES = ((4, 8.0, "qv"), (3, 3.0, "qkvo"))
PARTS = {"q": "query", "k": "key", "v": "value"}


class Adapter(nn.Module):
    def __init__(self, path: str, width: int, rank: int, scale: float):
        super().__init__()
        of = lambda leaf, shape: torch.tensor(tensor(f"{path}.lora.{leaf}", shape, 0.0, 0.07), dtype=torch.float64)  # noqa: E731
        self.path, self.scale = path, scale
        self.a = nn.Parameter(of("a", [width, rank]).T.contiguous())  # [rank, in], as nn.Linear
        self.b = nn.Parameter(of("b", [rank, width]).T.contiguous())

    def forward(self, x):
        return F.linear(F.linear(x, self.a), self.b) * self.scale


class Projections(nn.Module):
    """A joined projection to queries, keys and values, with adapters on some of them."""

    def __init__(self, base: nn.Linear, adapters: dict[str, Adapter]):
        super().__init__()
        self.base, self.adapters = base, nn.ModuleDict(adapters)

    def forward(self, x):
        parts = self.base(x).chunk(3, dim=-1)
        return torch.cat([y + self.adapters[k](x) if k in self.adapters else y for k, y in zip(PARTS, parts)], dim=-1)


class Projection(nn.Module):
    def __init__(self, base: nn.Linear, adapter: Adapter):
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x):
        return self.base(x) + self.adapter(x)


def case(rank: int, alpha: float, targets: str) -> tuple[list, dict]:
    model = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=CLASSES).double().eval()
    rows = [
        row("head." + name[5:], value.shape, "classifier_oi" if value.ndim == 2 else "bias")
        if name.startswith("head.")
        else row_of(name, value.shape)
        for name, value in model.state_dict().items()
    ]
    model.load_state_dict({each[0]: torch.tensor(tensor_of(each), dtype=torch.float64) for each in rows})
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("head.")
    adapters = []
    for i, block in enumerate(model.blocks, start=1):
        of = {k: Adapter(f"block{i}.attention.{PARTS[k]}", 192, rank, alpha / rank) for k in targets if k in PARTS}
        adapters += of.values()
        block.attn.qkv = Projections(block.attn.qkv, of)
        if "o" in targets:
            adapters.append(Adapter(f"block{i}.attention.out", 192, rank, alpha / rank))
            block.attn.proj = Projection(block.attn.proj, adapters[-1])
    pictures = torch.tensor(input_batch(INPUT), dtype=torch.float64).permute(0, 3, 1, 2)
    labels = torch.arange(INPUT[0]) % CLASSES
    logits = model(pictures)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    gradients = {}
    for adapter in adapters:
        gradients[f"{adapter.path}.lora.a"] = sampled(adapter.a.grad.T.numpy(), KEPT)
        gradients[f"{adapter.path}.lora.b"] = sampled(adapter.b.grad.T.numpy(), KEPT)
    gradients["head.logits.kernel"] = sampled(model.head.weight.grad.T.numpy(), KEPT)
    gradients["head.logits.bias"] = sampled(model.head.bias.grad.numpy(), KEPT)
    of = {"rank": rank, "alpha": alpha, "targets": targets, "logits": logits.detach().numpy().tolist(), "loss": loss.item()}
    return rows, of | {"gradients": gradients}


def main() -> None:
    cases = [case(*each) for each in CASES]
    write_json(
        "lora.json",
        {
            "reference": f"timm {timm.__version__}, torch {torch.__version__}, float64",
            "inputShape": list(INPUT),
            "labels": [i % CLASSES for i in range(INPUT[0])],
            "tensors": cases[0][0],
            "cases": [of for _, of in cases],
        },
    )


if __name__ == "__main__":
    main()
