"""Figures of a classifier by scikit-learn, for test/train/metrics.test.ts.

Logits are tensors of generator.py called `logits`, in double precision from there on. Labels follow the largest logit for a
share of the pictures and the row's number for the rest, so that some classes are never labels, or never predictions.
"""

from __future__ import annotations

import numpy as np
import sklearn
from generator import tensor
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    classification_report,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    recall_score,
    top_k_accuracy_score,
)
from store import write_json

#: pictures, classes, scale of the logits, one in how many is labelled otherwise, the classes that such labels are taken from
CASES = (
    (60, 3, 2.0, 3, (0, 1, 2)),
    (200, 10, 4.0, 2, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
    (40, 12, 6.0, 1, (2, 3)),
    (30, 40, 3.0, 4, (0, 39)),
    (25, 2, 9.0, 1, (1,)),
    (500, 5, 1.0, 2, (0, 4)),
)
BINS = 15  # Guo et al. 2017, section 5


def case(pictures: int, classes: int, scale: float, every: int, others: tuple[int, ...]) -> dict:
    logits = tensor("logits", [pictures, classes], 0.0, scale).astype(np.float64)
    probabilities = softmax(logits, axis=1)
    predicted = probabilities.argmax(axis=1)
    rows = np.arange(pictures)
    labels = np.where(rows % every == 0, np.asarray(others)[rows % len(others)], predicted)
    everything = list(range(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=everything, zero_division=np.nan
    )
    # By default a class takes part that is a label or a prediction, and what cannot be divided is 0.
    report = classification_report(labels, predicted, output_dict=True, zero_division=0)
    means = {kind: [report[f"{kind} avg"][name] for name in ("precision", "recall", "f1-score")] for kind in ("macro", "weighted")}
    specificity = [recall_score(labels != c, predicted != c, zero_division=np.nan) for c in everything]
    present = np.union1d(labels, predicted)
    of_present = np.nan_to_num([specificity[c] for c in present])
    means["macro"].append(float(np.mean(of_present)))
    means["weighted"].append(float(np.average(of_present, weights=support[present])))
    confidence = probabilities.max(axis=1)
    correct = (predicted == labels).astype(int)
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=BINS, strategy="uniform")
    count = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence), minlength=BINS)
    filled = count[count > 0]
    return {
        "shape": [pictures, classes],
        "scale": scale,
        "labels": labels.tolist(),
        "confusion": confusion_matrix(labels, predicted, labels=everything).tolist(),
        "loss": log_loss(labels, probabilities, labels=everything),
        "top1": float(correct.mean()),
        "top5": float(top_k_accuracy_score(labels, probabilities, k=5, labels=everything)) if classes > 5 else 1.0,
        "precision": none_for_nan(precision),
        "recall": none_for_nan(recall),
        "f1": none_for_nan(f1),
        "specificity": none_for_nan(specificity),
        "support": support.tolist(),
        "macro": means["macro"],
        "weighted": means["weighted"],
        "bins": {"count": count.tolist(), "accuracy": accuracy.tolist(), "confidence": mean_confidence.tolist()},
        "ece": float(np.sum(filled / pictures * np.abs(accuracy - mean_confidence))),
    }


def none_for_nan(values) -> list:
    return [None if np.isnan(value) else float(value) for value in values]


def main() -> None:
    write_json("metrics.json", {"sklearn": sklearn.__version__, "cases": [case(*each) for each in CASES]})


if __name__ == "__main__":
    main()
