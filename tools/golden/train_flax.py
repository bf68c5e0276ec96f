"""Gradients of the hybrid's ResNet, its standardised kernels and group norms, by jax: hybrid-resnet.json.

The ResNet of R50+ViT-B/16 with its places averaged and a linear head on them; one batch, as store.train_fixture has
it.
"""

from __future__ import annotations

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_nets import resnet, row_of
from generator import Row, input_batch, tensor_of
from store import LABEL_SMOOTHING, TRAIN_CLASSES, sampled, write_json

INPUT = (4, 64, 48, 3)
GRADIENT_VALUES = 64


class Classifier(nn.Module):
    depths = (3, 4, 9)

    @nn.compact
    def __call__(self, x):
        return nn.Dense(TRAIN_CLASSES, name="head")(resnet(self, x).mean(axis=(1, 2)))


def away_from_kinks(r: Row) -> Row:
    """The distribution of a norm's gammas and betas that generator.training_row tells of."""
    name, shape, _, _ = r
    if "gn" in name:
        return (name, shape, 0.6, 0.2) if name.endswith("scale") else (name, shape, 2.0, 1.0)
    return r


def gradients_of(weights: dict[str, np.ndarray], dtype) -> tuple[float, dict[str, np.ndarray]]:
    """Loss, and its gradients by published name."""
    squeezed = {name: value.squeeze() if "gn" in name else value for name, value in weights.items()}
    params = unflatten_dict({tuple(name.split("/")): jnp.asarray(v, dtype) for name, v in squeezed.items()})
    image, labels = jnp.asarray(input_batch(INPUT), dtype), jnp.arange(INPUT[0]) % TRAIN_CLASSES
    targets = (1 - LABEL_SMOOTHING) * jax.nn.one_hot(labels, TRAIN_CLASSES) + LABEL_SMOOTHING / TRAIN_CLASSES

    def loss_of(p):
        logits = Classifier().apply({"params": p}, image)
        return -(targets * jax.nn.log_softmax(logits)).sum(axis=1).mean()

    loss, gradients = jax.jit(jax.value_and_grad(loss_of))(params)
    return float(loss), {"/".join(k): np.asarray(v) for k, v in flatten_dict(gradients).items()}


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    shapes = jax.eval_shape(Classifier().init, jax.random.key(0), jnp.zeros(INPUT))["params"]
    of = [away_from_kinks(row_of(path, value.shape)) for path, value in sorted(flatten_dict(shapes).items())]
    weights = {r[0]: tensor_of(r) for r in of}
    loss, gradients = gradients_of(weights, jnp.float32)
    exact = gradients_of(weights, jnp.float64)[1]
    noise = {name: float(np.abs(gradients[name] - v).max() / np.abs(v).max()) for name, v in exact.items()}
    worst = max(noise, key=noise.get)
    print(f"  float32 gradients within {noise[worst]:.1e} of float64's ({worst})")
    assert noise[worst] < 4e-4
    write_json(
        "hybrid-resnet.json",
        {
            "reference": f"vit_jax's ResNet in flax {flax.__version__}, jax {jax.__version__}",
            "tensors": [list(r) for r in of],
            "inputShape": list(INPUT),
            "classes": TRAIN_CLASSES,
            "labelSmoothing": LABEL_SMOOTHING,
            "loss": loss,
            "gradients": {name: sampled(v, GRADIENT_VALUES) for name, v in exact.items()},
        },
    )


if __name__ == "__main__":
    main()
