"""Twenty steps of PyTorch's and timm's optimisers, their schedules, losses and averages, for test/train.

`python optimize_torch.py` in the environment torch; writes training/torch.json.
"""

from __future__ import annotations

import numpy as np
import timm
import torch
import torch.nn.functional as F
from optimize import CLASS_WEIGHTS, KERNELS, SHAPES, STEPS, gradient, labels, logits, soft_targets, starts, varying
from store import full, write_json
from timm.optim.lamb import Lamb
from timm.optim.lion import Lion
from timm.optim.sgdw import SGDW
from timm.scheduler.step_lr import StepLRScheduler
from timm.utils.model_ema import ModelEmaV2
from torch.optim import lr_scheduler

RATE = 0.01
"""PyTorch keeps the rate out of momentum's accumulators, so that only with one rate its numbers are ours."""

RAW = {"epsilonRule": "corrected"}

#: name -> class, its settings, ours, the rate; weight decay is for the kernels alone
OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"eps": 1e-3}, {"name": "adam", "epsilon": 1e-3, **RAW}, "varying"),
    "adamw": (
        torch.optim.AdamW,
        {"eps": 1e-3, "weight_decay": 0.3},
        {"name": "adamw", "epsilon": 1e-3, "weightDecay": 0.3, **RAW},
        "varying",
    ),
    "adamw, rates by group": (
        torch.optim.AdamW,
        {"eps": 1e-3, "weight_decay": 0.3},
        {"name": "adamw", "epsilon": 1e-3, "weightDecay": 0.3, "scales": {"a.kernel": 0.3, "b.norm.gamma": 0.1}, **RAW},
        "varying",
    ),
    "adamw, clipped": (
        torch.optim.AdamW,
        {"eps": 1e-3, "weight_decay": 0.3},
        {"name": "adamw", "epsilon": 1e-3, "weightDecay": 0.3, "clipNorm": 0.5, **RAW},
        "varying",
    ),
    "sgd": (torch.optim.SGD, {}, {"name": "sgd"}, "varying"),
    "sgd, momentum": (torch.optim.SGD, {"momentum": 0.9}, {"name": "sgd", "momentum": 0.9}, "constant"),
    "sgd, nesterov": (
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True},
        {"name": "sgd", "momentum": 0.9, "nesterov": True},
        "constant",
    ),
    "sgdw, nesterov": (
        SGDW,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.3},
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "weightDecay": 0.3},
        "constant",
    ),
    # Epsilon lies inside of the root with us, behind it in PyTorch: without one, they are the same.
    "rmsprop": (
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 0.0},
        {"name": "rmsprop", "epsilon": 1e-30},
        "varying",
    ),
    "rmsprop, momentum": (
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 0.0, "momentum": 0.9},
        {"name": "rmsprop", "epsilon": 1e-30, "momentum": 0.9},
        "constant",
    ),
    "lion": (Lion, {"weight_decay": 0.3}, {"name": "lion", "weightDecay": 0.3}, "varying"),
    "lamb": (
        Lamb,
        {"weight_decay": 0.3, "max_grad_norm": None},
        {"name": "lamb", "weightDecay": 0.3},
        "varying",
    ),
    "lamb, rates by group": (
        Lamb,
        {"weight_decay": 0.3, "max_grad_norm": None},
        {"name": "lamb", "weightDecay": 0.3, "scales": {"a.kernel": 0.3, "b.norm.gamma": 0.1}},
        "varying",
    ),
}


def run(make, settings: dict, ours: dict, rate: str) -> dict[str, list[np.ndarray]]:
    parameters = {path: torch.nn.Parameter(torch.tensor(value)) for path, value in starts().items()}
    scales = ours.get("scales", {})
    decay = settings.get("weight_decay", 0.0)
    groups = [
        {"params": [p], "weight_decay": decay if path in KERNELS else 0.0, "scale": scales.get(path, 1.0)}
        for path, p in parameters.items()
    ]
    optimizer = make(groups, lr=RATE, **settings)
    values = {path: [] for path in SHAPES}
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = (varying(step) if rate == "varying" else RATE) * group["scale"]
        for path, p in parameters.items():
            p.grad = torch.tensor(gradient(path, step))
        if "clipNorm" in ours:
            torch.nn.utils.clip_grad_norm_(parameters.values(), ours["clipNorm"])
        optimizer.step()
        for path, p in parameters.items():
            values[path].append(p.detach().numpy().copy())
    return values


def packed(values: dict[str, list[np.ndarray]]) -> dict:
    return {path: full(np.stack(each)) for path, each in values.items()}


class Parameters(torch.nn.Module):
    """The four tensors as a module, for timm's averages of one."""

    def __init__(self) -> None:
        super().__init__()
        for path, value in starts().items():
            self.register_buffer(path.replace(".", "_"), torch.tensor(value))


def average(decay: float) -> dict:
    """timm's averages of the values of plain SGD."""
    values = run(torch.optim.SGD, {}, {"name": "sgd"}, "varying")
    module = Parameters()
    averages = ModelEmaV2(module, decay=decay)
    found = {path: [] for path in SHAPES}
    for step in range(STEPS):
        for path in SHAPES:
            getattr(module, path.replace(".", "_")).copy_(torch.tensor(values[path][step]))
        averages.update(module)
        for path in SHAPES:
            found[path].append(getattr(averages.module, path.replace(".", "_")).numpy().copy())
    return packed(found)


def schedules() -> dict:
    total = 20

    def made():
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)

    def warmed(then):
        """Rises in equal steps over 5, then the other, which starts anew."""
        optimizer = made()
        first = lr_scheduler.LinearLR(optimizer, start_factor=1 / 5, end_factor=1.0, total_iters=4)
        return optimizer, lr_scheduler.SequentialLR(optimizer, [first, then(optimizer)], milestones=[5])

    def plain(make):
        optimizer = made()
        return optimizer, make(optimizer)

    def one_cycle(rising: float):
        return lambda o: lr_scheduler.OneCycleLR(
            o, max_lr=0.2, total_steps=total, pct_start=rising, anneal_strategy="cos", cycle_momentum=False
        )

    cases = {
        "step": (
            plain(lambda o: lr_scheduler.StepLR(o, step_size=6, gamma=0.3)),
            {"name": "step", "stepSize": 6, "stepGamma": 0.3},
        ),
        "cosine": (plain(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=total)), {"name": "cosine"}),
        "cosine, lowest rate": (
            plain(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=total, eta_min=0.02)),
            {"name": "cosine", "minLr": 0.02},
        ),
        "cosine, warm-up, lowest rate": (
            warmed(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=total - 5, eta_min=0.02)),
            {"name": "cosine", "minLr": 0.02, "warmupSteps": 5},
        ),
        "constant, warm-up": (
            warmed(lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
            {"name": "constant", "warmupSteps": 5},
        ),
        "one-cycle": (plain(one_cycle(0.3)), {"name": "one-cycle"}),
        "one-cycle, 7 steps up": (plain(one_cycle(7 / total)), {"name": "one-cycle", "warmupSteps": 7}),
    }
    found = {}
    for name, ((optimizer, schedule), options) in cases.items():
        rates = []
        for _ in range(total):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(rates) < total:
                schedule.step()
        found[name] = {"options": {"lr": 0.2, "totalSteps": total, "warmupSteps": 0, **options}, "rates": rates}

    # timm's falls are counted from the start of the run where the warm-up is no prefix; its warm-up starts one step lower.
    optimizer = made()
    warm = StepLRScheduler(
        optimizer, decay_t=8, decay_rate=0.3, warmup_t=5, warmup_lr_init=0.04, warmup_prefix=False, t_in_epochs=False
    )
    rates = []
    for step in range(total):
        warm.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    options = {"name": "step", "lr": 0.2, "totalSteps": total, "warmupSteps": 5, "stepSize": 8, "stepGamma": 0.3}
    found["step, warm-up"] = {"options": options, "rates": rates, "from": 5}
    return found


def losses() -> dict:
    found = {}
    weights = torch.tensor(CLASS_WEIGHTS, dtype=torch.float64)

    def add(name: str, loss_of, options: dict, smoothing: float = 0.0) -> None:
        x = torch.tensor(logits()).requires_grad_()
        loss = loss_of(x, torch.tensor(soft_targets(smoothing)))
        loss.backward()
        found[name] = {
            "options": {"labelSmoothing": smoothing, **options},
            "loss": loss.item(),
            "gradient": full(x.grad.numpy()),
        }

    def focal(x, targets, gamma: float, weight=1.0):
        """Lin et al. 2017, equation 4, over a softmax: PyTorch has none of its own, torchvision's is over sigmoids."""
        log_p = F.log_softmax(x, dim=1)
        return -(weight * targets * (1 - log_p.exp()) ** gamma * log_p).sum(dim=1).mean()

    add("cross-entropy", F.cross_entropy, {})
    index = torch.tensor(labels())
    add("label smoothing", lambda x, _: F.cross_entropy(x, index, label_smoothing=0.1), {}, 0.1)
    # With distributions as targets, PyTorch's mean is over the pictures; with labels it is over their weights.
    ours = {"classWeights": list(CLASS_WEIGHTS)}
    add("class weights", lambda x, t: F.cross_entropy(x, t, weight=weights), ours)
    add("class weights, label smoothing", lambda x, t: F.cross_entropy(x, t, weight=weights), ours, 0.2)
    add("focal 2", lambda x, t: focal(x, t, 2.0), {"focal": 2.0})
    add("focal 0", lambda x, t: focal(x, t, 0.0), {"focal": 0.0})
    add("focal 0.5", lambda x, t: focal(x, t, 0.5), {"focal": 0.5})
    add("focal, class weights", lambda x, t: focal(x, t, 3.0, weights), {"focal": 3.0, **ours}, 0.1)
    return found


def main() -> None:
    optimizers = {
        name: {"options": ours, "rate": rate, "values": packed(run(make, settings, ours, rate))}
        for name, (make, settings, ours, rate) in OPTIMIZERS.items()
    }
    averages = {"timm": {"options": {"decay": 0.8, "warmUp": False}, "values": average(0.8)}}
    write_json(
        "training/torch.json",
        {
            "torch": torch.__version__.split("+")[0],
            "timm": timm.__version__,
            "optimizers": optimizers,
            "averages": averages,
            "schedules": schedules(),
            "losses": losses(),
        },
    )


if __name__ == "__main__":
    main()
