"""Google's vision transformers in flax, written here from the published description of vit_jax: layers and names of
models_vit.py and models_resnet.py, sizes of configs/models.py, resampling of checkpoint.py. The layers themselves
(convolution, dense, norms, attention, GELU) are flax's own, with flax's defaults where vit_jax takes the defaults.

Weights are called as in the published .npz files, which a flax before linen wrote: it counted all layers of a block
together (MlpBlock_3), and its group norms had [1, 1, 1, channels].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Sequence

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from flax.traverse_util import flatten_dict, unflatten_dict

from generator import Row, tensor_of
from vit_rows import vit_row


@dataclass
class Net:
    """A vision transformer."""

    backbone: str
    source: str
    file: str
    reference: str
    build: Callable[[], "VisionTransformer"]
    side: int = 224
    """Height and width of the pictures that its position embedding is for."""
    committed: bool = False
    """Whether its forward fixture is committed; all are compared at real size by `npm run parity`."""
    cases: Sequence[Sequence[int]] = ((1, 224, 224, 3), (2, 64, 48, 3))
    """Input shapes of the forward fixture."""
    sizes: Sequence[int] = (224, 256)
    """Input sizes of the comparison at real size."""


class StdConv(nn.Module):
    """A convolution without bias whose kernel is standardised over height, width and input channels."""

    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        kernel = kernel - kernel.mean(axis=(0, 1, 2))
        kernel = kernel / (kernel.std(axis=(0, 1, 2)) + 1e-5)
        return jax.lax.conv_general_dilated(
            x, kernel, (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class Unit(nn.Module):
    """A bottleneck that is activated after the sum, with its stride in the 3x3."""

    planes: int
    stride: int

    @nn.compact
    def __call__(self, x):
        shortcut = x
        if x.shape[-1] != 4 * self.planes or self.stride != 1:
            shortcut = StdConv(4 * self.planes, 1, self.stride, name="conv_proj")(x)
            shortcut = nn.GroupNorm(name="gn_proj")(shortcut)
        y = nn.relu(nn.GroupNorm(name="gn1")(StdConv(self.planes, 1, name="conv1")(x)))
        y = nn.relu(nn.GroupNorm(name="gn2")(StdConv(self.planes, 3, self.stride, name="conv2")(y)))
        y = nn.GroupNorm(name="gn3")(StdConv(4 * self.planes, 1, name="conv3")(y))
        return nn.relu(shortcut + y)


class Stage(nn.Module):
    planes: int
    depth: int
    stride: int

    @nn.compact
    def __call__(self, x):
        for i in range(1, self.depth + 1):
            x = Unit(self.planes, self.stride if i == 1 else 1, name=f"unit{i}")(x)
            self.sow("taps", f"block{i}", x)
        return x


class MlpBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(4 * x.shape[-1], name="Dense_0")(x))
        return nn.Dense(x.shape[-1], name="Dense_1")(y)


class EncoderBlock(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(name="LayerNorm_0")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="MultiHeadDotProductAttention_1")(y, y)
        return x + MlpBlock(name="MlpBlock_3")(nn.LayerNorm(name="LayerNorm_2")(x))


class PositionEmbedding(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + self.param("pos_embedding", nn.initializers.normal(0.02), (1, *x.shape[1:]))


class Transformer(nn.Module):
    layers: int
    heads: int

    @nn.compact
    def __call__(self, x):
        x = PositionEmbedding(name="posembed_input")(x)
        self.sow("taps", "embedding", x)
        for layer in range(self.layers):
            x = EncoderBlock(self.heads, name=f"encoderblock_{layer}")(x)
            self.sow("taps", f"block{layer + 1}", x)
        return nn.LayerNorm(name="encoder_norm")(x)


def resnet(of: nn.Module, x):
    """A hybrid's ResNet, in the names of the module `of`; `of.depths` are the blocks of its stages."""
    x = nn.relu(nn.GroupNorm(name="gn_root")(StdConv(64, 7, 2, name="conv_root")(x)))
    of.sow("taps", "stem", x)
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
    of.sow("taps", "stem.pool", x)
    for stage, depth in enumerate(of.depths):
        x = Stage(64 * 2**stage, depth, 1 if stage == 0 else 2, name=f"block{stage + 1}")(x)
    return x


class VisionTransformer(nn.Module):
    patch: int
    layers: int
    width: int
    heads: int
    classes: int
    depths: Sequence[int] = ()
    representation: bool = False

    @nn.compact
    def __call__(self, x):
        if self.depths:
            x = resnet(self, x)
        x = nn.Conv(self.width, (self.patch, self.patch), (self.patch, self.patch), "VALID", name="embedding")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)), x], axis=1)
        x = Transformer(self.layers, self.heads, name="Transformer")(x)[:, 0]
        if self.representation:
            x = nn.tanh(nn.Dense(self.width, name="pre_logits")(x))
        return x, nn.Dense(self.classes, name="head")(x)


# patch, layers, width, heads
SIZES = {
    "vit_ti16": (16, 12, 192, 3),
    "vit_s16": (16, 12, 384, 6),
    "vit_b16": (16, 12, 768, 12),
    "vit_b32": (32, 12, 768, 12),
    "vit_l16": (16, 24, 1024, 16),
    "vit_l32": (32, 24, 1024, 16),
    "vit_h14": (14, 32, 1280, 16),
    "r50_vit_b16": (1, 12, 768, 12),
}
SMALL = ("vit_ti16", "r50_vit_b16")


def net(name: str, pretrained: bool = False, side: int = 224) -> Net:
    """With `pretrained`, as on ImageNet-21k: a representation layer, and 21,843 classes."""
    depths = (3, 4, 9) if name == "r50_vit_b16" else ()
    classes = 21_843 if pretrained else 1000
    return Net(
        name,
        "flax",
        "flax_21k" if pretrained else "flax" if side == 224 else f"flax_{side}",
        f"vit_jax's {name} in flax {flax.__version__}, jax {jax.__version__}",
        lambda: VisionTransformer(*SIZES[name], classes, depths, pretrained),
        side,
        committed=name in SMALL and not pretrained and side == 224,
        **({"cases": ((2, 64, 48, 3),)} if depths else {}),
        sizes=(224, 252) if name == "vit_h14" else (224, 256) if side == 224 else (side, 224),
    )


NETS: dict[str, Callable[[], Net]] = {f"{name}.flax": lambda name=name: net(name) for name in SIZES}
NETS |= {f"{name}.flax_21k": lambda name=name: net(name, True) for name in ("vit_b16", "r50_vit_b16")}
NETS |= {"vit_ti16.flax_384": lambda: net("vit_ti16", side=384)}


def row_of(path: tuple[str, ...], shape: Sequence[int]) -> Row:
    name, owner, leaf = "/".join(path), path[-2] if len(path) > 1 else "", path[-1]
    group_norm = owner.startswith("gn")
    if group_norm:
        shape = (1, 1, 1, *shape)
    if leaf == "scale":
        return vit_row("gamma_last" if owner == "gn3" else "gamma", name, shape)
    if leaf == "cls":
        return vit_row("token", name, shape)
    if leaf == "pos_embedding":
        return vit_row("position", name, shape)
    if leaf == "bias":
        role = {"Dense_0": "expand_bias", "embedding": "patches_bias"}.get(owner, "bias")
        return vit_row("beta" if group_norm or "Norm" in owner else role, name, shape)
    if owner.startswith("conv"):
        return vit_row("standardised", name, shape)
    roles = {"embedding": "hybrid_patches" if shape[0] == 1 else "patches", "Dense_0": "expand", "Dense_1": "project"}
    # [D, heads, D / heads] of a query, key or value: the others sum over all dimensions but the last
    fan_in = shape[0] if owner in ("query", "key", "value") else math.prod(shape[:-1])
    return vit_row(roles.get(owner, "attention"), name, shape, fan_in)


def rows(net: Net) -> list[Row]:
    """One row a tensor of the published file."""
    shapes = jax.eval_shape(net.build().init, jax.random.key(0), jnp.zeros((1, net.side, net.side, 3)))["params"]
    return [row_of(path, value.shape) for path, value in sorted(flatten_dict(shapes).items())]


def zoomed(position: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """A position embedding on another grid: vit_jax's checkpoint.py, its class token kept."""
    side = math.isqrt(position.shape[1] - 1)
    places = position[0, 1:].reshape(side, side, -1)
    zoom = scipy.ndimage.zoom(places, (grid[0] / side, grid[1] / side, 1), order=1)
    return np.concatenate([position[:, :1], zoom.reshape(1, -1, position.shape[-1])], axis=1)


def forward(net: Net, weights: dict[str, np.ndarray], image: np.ndarray) -> dict[str, np.ndarray]:
    """Every tap as NHWC or [N, tokens, D], pre_logits [N, D] and logits, by weights of published names and shapes."""
    model, of = net.build(), dict(weights)
    stride = 16 if model.depths else model.patch
    grid = (image.shape[1] // stride, image.shape[2] // stride)
    name = "Transformer/posembed_input/pos_embedding"
    if of[name].shape[1] != 1 + grid[0] * grid[1]:
        of[name] = zoomed(of[name], grid)
    params = unflatten_dict({tuple(k.split("/")): v.squeeze() if "/gn" in f"/{k}" else v for k, v in of.items()})
    (pre_logits, logits), state = jax.jit(lambda p, x: model.apply({"params": p}, x, mutable="taps"))(params, image)
    values = {}
    for (*owners, tap), (value,) in flatten_dict(state["taps"]).items():
        stage = f"stage{owners[0][5:]}." if owners and owners[0].startswith("block") else ""
        values[f"{stage}{tap}"] = np.asarray(value)
    return values | {"pre_logits": np.asarray(pre_logits), "logits": np.asarray(logits)}


def make_weights(of: Sequence[Row]) -> dict[str, np.ndarray]:
    return {r[0]: tensor_of(r) for r in of}
