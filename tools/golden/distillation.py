"""The loss of knowledge distillation and its gradient by PyTorch, for test/train/distill-loss.test.ts.

(1 - a) * cross-entropy with the labels + a * T^2 * KL(softmax(teacher / T) || softmax(student / T)), means over the batch
(Hinton, Vinyals, Dean 2015). The logits are tensors of generator.py called `student` and `teacher`, the labels are the
row's number modulo the classes. In double precision: what is compared is float32.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from generator import tensor
from store import full, write_json

#: shape, scale of the logits, weight a, temperature T, label smoothing
CASES = (
    ((4, 3), 2.0, 0.5, 2.0, 0.0),
    ((7, 10), 5.0, 0.9, 4.0, 0.1),
    ((1, 10), 3.0, 0.7, 1.0, 0.0),
    ((3, 1000), 8.0, 0.5, 10.0, 0.1),
    ((5, 2), 40.0, 0.3, 0.5, 0.0),
    ((6, 5), 4.0, 0.0, 3.0, 0.2),
    ((6, 5), 4.0, 1.0, 3.0, 0.2),
)


def case(shape: tuple[int, int], scale: float, weight: float, temperature: float, smoothing: float) -> dict:
    logits = {name: torch.tensor(tensor(name, list(shape), 0.0, scale), dtype=torch.float64) for name in ("student", "teacher")}
    student = logits["student"].requires_grad_()
    labels = torch.arange(shape[0]) % shape[1]
    hard = F.cross_entropy(student, labels, label_smoothing=smoothing)
    soft = temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(logits["teacher"] / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    loss = (1 - weight) * hard + weight * soft
    loss.backward()
    return {
        "shape": list(shape),
        "scale": scale,
        "weight": weight,
        "temperature": temperature,
        "labelSmoothing": smoothing,
        "hard": hard.item(),
        "soft": soft.item(),
        "loss": loss.item(),
        "gradient": full(student.grad.numpy().astype(np.float32)),
    }


def main() -> None:
    write_json("distillation.json", {"torch": torch.__version__.split("+")[0], "cases": [case(*each) for each in CASES]})


if __name__ == "__main__":
    main()
