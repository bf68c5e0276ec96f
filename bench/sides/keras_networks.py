"""The peers' networks in Keras, as its users write them, filled with generated weights.

Networks that keras.applications has are taken from there. Those of PyTorch are built here from the same layers that
Keras' own code for them uses (keras-hub itself would bring a TensorFlow of its own); their layers are called as
PyTorch's modules are, so that the rows of weights find them.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from generator import tensor

keras = tf.keras
layers = keras.layers


def body(of: dict, rows: list) -> "keras.Model":
    """Pixels [N, side, side, 3] -> pre_logits [N, units]."""
    network = of["network"]
    if network["source"] == "keras":
        application = getattr(keras.applications, network["reference"])
        model = application(weights=None, include_top=False, pooling="avg", input_shape=(of["side"], of["side"], 3))
        model.set_weights([tensor(*row) for row in rows])
        return model
    model = BUILDERS[network["reference"]](of["side"])
    values = {name: tensor(name, *rest) for name, *rest in rows}
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(weights_of(layer, values))
            taken = [name for name in values if name.startswith(f"{layer.name}.") or name in EMBED.get(layer.name, ())]
            for name in taken:
                del values[name]
    assert not values, f"no layer takes {sorted(values)[:5]}"
    return model


def with_head(model: "keras.Model", rows: list) -> "keras.Model":
    """A linear head of the classes behind it."""
    kernel, bias = (tensor(*row) for row in rows)
    head = layers.Dense(len(bias), name="head")
    whole = keras.Model(model.input, head(model.output), name=model.name)
    head.set_weights([kernel, bias])
    return whole


EMBED = {"embed": ("cls_token", "pos_embed")}


def weights_of(layer, values: dict) -> list[np.ndarray]:
    """A layer's weights in Keras' order and layout, from those of the module of its name."""
    of = lambda leaf: values[f"{layer.name}.{leaf}"]  # noqa: E731
    if isinstance(layer, layers.Conv2D):
        return [of("weight").transpose(2, 3, 1, 0)] + ([of("bias")] if layer.use_bias else [])
    if isinstance(layer, layers.BatchNormalization):
        return [of(leaf) for leaf in ("weight", "bias", "running_mean", "running_var")]
    if isinstance(layer, layers.LayerNormalization):
        return [of("weight"), of("bias")]
    if isinstance(layer, layers.Dense):
        return [of("weight").T, of("bias")]
    if isinstance(layer, layers.MultiHeadAttention):
        return attention_weights(of)
    return [values[name] for name in EMBED[layer.name]]


def attention_weights(of, heads: int = 12) -> list[np.ndarray]:
    """timm keeps queries, keys and values in one matrix [3 * width, width]; Keras apart, as [width, heads, length]."""
    width = of("qkv.weight").shape[1]
    kernels = of("qkv.weight").reshape(3, heads, width // heads, width).transpose(0, 3, 1, 2)
    biases = of("qkv.bias").reshape(3, heads, width // heads)
    out = of("proj.weight").T.reshape(heads, width // heads, width)
    return [each for pair in zip(kernels, biases) for each in pair] + [out, of("proj.bias")]


def resnet50(side: int) -> "keras.Model":
    """torchvision's: no biases before batch norms, the stride in the 3x3 convolution, padding on both sides."""

    def conv_norm(x, conv: str, norm: str, planes: int, size: int, stride: int = 1, relu: bool = True):
        if size > 1:
            x = layers.ZeroPadding2D(size // 2)(x)
        x = layers.Conv2D(planes, size, stride, use_bias=False, name=conv)(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)
        return layers.ReLU()(x) if relu else x

    image = layers.Input((side, side, 3))
    x = conv_norm(image, "conv1", "bn1", 64, 7, 2)
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # of ReLU's outputs: zeros are no larger than any
    for stage, (blocks, planes) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512)), start=1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            stride = 2 if block == 0 and stage > 1 else 1
            y = conv_norm(x, f"{at}.conv1", f"{at}.bn1", planes, 1)
            y = conv_norm(y, f"{at}.conv2", f"{at}.bn2", planes, 3, stride)
            y = conv_norm(y, f"{at}.conv3", f"{at}.bn3", 4 * planes, 1, relu=False)
            if block == 0:
                x = conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", 4 * planes, 1, stride, relu=False)
            x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(image, layers.GlobalAveragePooling2D()(x), name="resnet50")


class Embed(layers.Layer):
    """[N, patches, D] -> [N, 1 + patches, D]: the class token in front, and where each patch lies."""

    def build(self, shape):
        self.token = self.add_weight(name="cls_token", shape=(1, 1, shape[-1]))
        self.position = self.add_weight(name="pos_embed", shape=(1, shape[1] + 1, shape[-1]))

    def call(self, x):
        token = tf.tile(self.token, [tf.shape(x)[0], 1, 1])
        return tf.concat([token, x], axis=1) + self.position


def vit_b16(side: int) -> "keras.Model":
    """Dosovitskiy 2020, table 1: ViT-Base with patches of 16; exact GELU, epsilon 1e-6."""
    width, heads, depth, patch = 768, 12, 12, 16
    norm = lambda name: layers.LayerNormalization(epsilon=1e-6, name=name)  # noqa: E731
    image = layers.Input((side, side, 3))
    x = layers.Conv2D(width, patch, patch, name="patch_embed.proj")(image)
    x = Embed(name="embed")(layers.Reshape(((side // patch) ** 2, width))(x))
    for at in (f"blocks.{i}" for i in range(depth)):
        y = norm(f"{at}.norm1")(x)
        x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads, name=f"{at}.attn")(y, y)])
        y = layers.Dense(4 * width, activation="gelu", name=f"{at}.mlp.fc1")(norm(f"{at}.norm2")(x))
        x = layers.Add()([x, layers.Dense(width, name=f"{at}.mlp.fc2")(y)])
    return keras.Model(image, norm("norm")(x)[:, 0], name="vit_b16")


BUILDERS = {"resnet50.torch": resnet50, "vit_b16.timm": vit_b16}
