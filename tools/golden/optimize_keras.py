"""Twenty steps of Keras 3's optimisers, its schedules, losses and averages, and TensorFlow's, for test/train.

`python optimize_keras.py` in the environment keras3; writes training/keras.json.
"""

from __future__ import annotations

import numpy as np

import keras
import tensorflow as tf
from optimize import CLASS_WEIGHTS, KERNELS, SHAPES, STEPS, gradient, labels, logits, soft_targets, starts, varying
from store import full, write_json

keras.backend.set_floatx("float64")
keras.backend.set_epsilon(1e-7)
O = keras.optimizers

#: name of the case -> the optimiser, how ours is told to be the same, and whether all parameters decay or are adapted
OPTIMIZERS = {
    "adam": (lambda: O.Adam(), {"name": "adam"}),
    "adam, epsilon 1e-3": (lambda: O.Adam(epsilon=1e-3), {"name": "adam", "epsilon": 1e-3}),
    "adamw": (lambda: O.AdamW(weight_decay=0.3), {"name": "adamw", "weightDecay": 0.3}),
    "sgd": (lambda: O.SGD(), {"name": "sgd"}),
    "sgd, momentum": (lambda: O.SGD(momentum=0.9), {"name": "sgd", "momentum": 0.9}),
    "sgd, nesterov": (
        lambda: O.SGD(momentum=0.9, nesterov=True),
        {"name": "sgd", "momentum": 0.9, "nesterov": True},
    ),
    "sgd, nesterov, decay": (
        lambda: O.SGD(momentum=0.9, nesterov=True, weight_decay=0.3),
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "weightDecay": 0.3},
    ),
    "rmsprop": (lambda: O.RMSprop(), {"name": "rmsprop"}),
    "rmsprop, momentum": (lambda: O.RMSprop(momentum=0.9), {"name": "rmsprop", "momentum": 0.9}),
    "rmsprop, rho, epsilon, decay": (
        lambda: O.RMSprop(rho=0.7, epsilon=1e-3, momentum=0.5, weight_decay=0.3),
        {"name": "rmsprop", "rho": 0.7, "epsilon": 1e-3, "momentum": 0.5, "weightDecay": 0.3},
    ),
    "lion": (lambda: O.Lion(), {"name": "lion"}),
    "lion, decay": (lambda: O.Lion(weight_decay=0.3), {"name": "lion", "weightDecay": 0.3}),
    "lamb": (lambda: O.Lamb(epsilon=1e-6), {"name": "lamb", "everythingDecays": True}),
    "adam, clipped": (lambda: O.Adam(global_clipnorm=0.5), {"name": "adam", "clipNorm": 0.5}),
    "sgd, clipped": (
        lambda: O.SGD(momentum=0.9, global_clipnorm=0.5),
        {"name": "sgd", "momentum": 0.9, "clipNorm": 0.5},
    ),
}


def run(make) -> tuple[dict, dict]:
    """Values after every step, and Keras' averages of them where it keeps some."""
    optimizer = make()
    variables = {path: keras.Variable(value, name=path.replace(".", "_")) for path, value in starts().items()}
    optimizer.exclude_from_weight_decay(var_list=[v for path, v in variables.items() if path not in KERNELS])
    optimizer.build(list(variables.values()))
    values = {path: [] for path in SHAPES}
    averages = {path: [] for path in SHAPES}
    for step in range(1, STEPS + 1):
        optimizer.learning_rate = varying(step)
        gradients = [keras.ops.convert_to_tensor(gradient(path, step)) for path in SHAPES]
        optimizer.apply(gradients)
        for i, path in enumerate(SHAPES):
            values[path].append(np.array(variables[path]))
            if optimizer.use_ema:
                averages[path].append(np.array(optimizer._model_variables_moving_average[i]))
    return values, averages


def packed(values: dict[str, list[np.ndarray]]) -> dict:
    return {path: full(np.stack(each)) for path, each in values.items()}


def tensorflow_average(decay: float, warm: bool) -> dict:
    """tf.train.ExponentialMovingAverage over the values of plain SGD; num_updates is the number of updates done."""
    values, _ = run(lambda: O.SGD())
    variables = {path: tf.Variable(value) for path, value in starts().items()}
    # Its shadows begin with the values at the first apply, so one is made of the starting values before.
    count = tf.Variable(0, dtype=tf.int64)
    average = tf.train.ExponentialMovingAverage(decay, num_updates=count if warm else None)
    average.apply(list(variables.values()))
    shadows = {path: [] for path in SHAPES}
    for step in range(1, STEPS + 1):
        for path, variable in variables.items():
            variable.assign(values[path][step - 1])
        count.assign(step)
        average.apply(list(variables.values()))
        for path, variable in variables.items():
            shadows[path].append(average.average(variable).numpy())
    return packed(shadows)


def schedules() -> dict:
    S = O.schedules
    made = {
        "cosine": (S.CosineDecay(0.2, 20), {"name": "cosine", "lr": 0.2}),
        "cosine, lowest rate": (S.CosineDecay(0.2, 20, alpha=0.1), {"name": "cosine", "lr": 0.2, "minLr": 0.02}),
        "step": (
            S.ExponentialDecay(0.2, 6, 0.3, staircase=True),
            {"name": "step", "lr": 0.2, "stepSize": 6, "stepGamma": 0.3},
        ),
    }
    return {
        name: {"options": {"totalSteps": 20, "warmupSteps": 0, **options}, "rates": [float(rule(i)) for i in range(24)]}
        for name, (rule, options) in made.items()
    }


def losses() -> dict:
    """Mean losses of a batch, each with its gradient by the logits."""
    L = keras.losses
    weights = np.array(CLASS_WEIGHTS)
    found = {}

    def add(name: str, loss, options: dict, smoothing: float = 0.0, sample_weight=None) -> None:
        x = tf.constant(logits())
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(soft_targets(smoothing), x, sample_weight=sample_weight)
        found[name] = {
            "options": {"labelSmoothing": smoothing, **options},
            "loss": float(value),
            "gradient": full(tape.gradient(value, x).numpy()),
        }

    add("cross-entropy", L.CategoricalCrossentropy(from_logits=True), {})
    add("label smoothing", L.CategoricalCrossentropy(from_logits=True), {}, 0.1)
    # Model.fit's class_weight is a sample weight by label; the mean is over the pictures, not over their weights.
    add(
        "class weights",
        L.CategoricalCrossentropy(from_logits=True),
        {"classWeights": list(CLASS_WEIGHTS)},
        sample_weight=weights[labels()],
    )
    for gamma in (0.5, 1.0, 2.0, 5.0):
        focal = L.CategoricalFocalCrossentropy(alpha=1.0, gamma=gamma, from_logits=True)
        add(f"focal {gamma}", focal, {"focal": gamma})
    smooth = L.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    add("focal, label smoothing", smooth, {"focal": 2.0}, 0.1)
    weighted = L.CategoricalFocalCrossentropy(alpha=list(CLASS_WEIGHTS), gamma=2.0, from_logits=True)
    add("focal, class weights", weighted, {"focal": 2.0, "classWeights": list(CLASS_WEIGHTS)}, 0.1)
    return found


def main() -> None:
    optimizers = {}
    for name, (make, options) in OPTIMIZERS.items():
        optimizers[name] = {"options": options, "rate": "varying", "values": packed(run(make)[0])}
    kept = run(lambda: O.SGD(use_ema=True, ema_momentum=0.8))[1]
    averages = {
        "keras, from the first update": {"options": {"decay": 0.8, "warmUp": False}, "values": packed(kept)},
        "tensorflow": {"options": {"decay": 0.8, "warmUp": False}, "values": tensorflow_average(0.8, False)},
        "tensorflow, warm-up": {"options": {"decay": 0.999, "warmUp": True}, "values": tensorflow_average(0.999, True)},
        "tensorflow, warm-up, past its end": {
            "options": {"decay": 0.5, "warmUp": True},
            "values": tensorflow_average(0.5, True),
        },
    }
    write_json(
        "training/keras.json",
        {
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "optimizers": optimizers,
            "averages": averages,
            "schedules": schedules(),
            "losses": losses(),
        },
    )


if __name__ == "__main__":
    main()
