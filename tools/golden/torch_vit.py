"""timm's and torchvision's vision transformers.

Their position embeddings are those of 224x224, and other inputs have them resampled: timm's does so itself
(dynamic_img_size), torchvision's by its interpolate_embeddings.
"""

from __future__ import annotations

import math
from typing import Sequence

import timm
import torch
import torchvision
from torchvision.models.vision_transformer import interpolate_embeddings

from generator import Row
from torch_nets import Net
from vit_rows import vit_row

TIMM = {
    "vit_ti16": "vit_tiny_patch16_224",
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
    "vit_b32": "vit_base_patch32_224",
    "vit_l16": "vit_large_patch16_224",
    "vit_l32": "vit_large_patch32_224",
    "vit_h14": "vit_huge_patch14_224",
    "r50_vit_b16": "vit_base_r50_s16_224",
}
TORCHVISION = {name: f"vit_{name[4]}_{name[5:]}" for name in TIMM if name not in ("vit_ti16", "vit_s16", "r50_vit_b16")}
SMALL = ("vit_ti16", "r50_vit_b16")


def row_of(name: str, shape: Sequence[int]) -> Row:
    """Of either package's names."""
    owner, _, leaf = name.rpartition(".")
    last, bias = owner.rpartition(".")[2], leaf.endswith("bias")
    fan_in = math.prod(shape[1:])
    if name in ("cls_token", "class_token"):
        return vit_row("token", name, shape)
    if leaf in ("pos_embed", "pos_embedding"):
        return vit_row("position", name, shape)
    if "backbone" in owner:
        if len(shape) == 4:
            return vit_row("standardised", name, shape)
        return vit_row("beta" if bias else "gamma_last" if last == "norm3" else "gamma", name, shape)
    if last.startswith(("norm", "ln")):
        return vit_row("beta" if bias else "gamma", name, shape)
    if owner in ("patch_embed.proj", "conv_proj"):
        kernel = "hybrid_patches" if shape[-1] == 1 else "patches"
        return vit_row("patches_bias" if bias else kernel, name, shape, fan_in)
    if owner.endswith(("mlp.fc1", "mlp.0")):
        return vit_row("expand_bias" if bias else "expand", name, shape, fan_in)
    if owner.endswith(("mlp.fc2", "mlp.3")):
        return vit_row("bias" if bias else "project", name, shape, fan_in)
    return vit_row("bias" if bias else "attention", name, shape, fan_in)


def sizes_of(name: str) -> tuple[int, int]:
    return (224, 252) if name == "vit_h14" else (224, 256)


def timm_net(name: str) -> Net:
    hybrid = name == "r50_vit_b16"

    def taps(model):
        of = {}
        if hybrid:
            resnet = model.patch_embed.backbone
            of = {"stem": resnet.stem.norm, "stem.pool": resnet.stem.pool}
            for s, stage in enumerate(resnet.stages, start=1):
                of |= {f"stage{s}.block{b}": block for b, block in enumerate(stage.blocks, start=1)}
        of["embedding"] = model.norm_pre
        return of | {f"block{i}": block for i, block in enumerate(model.blocks, start=1)}

    alone = name not in TORCHVISION
    return Net(
        name,
        "torch" if alone else "timm",
        "torch" if alone else "timm",
        f"timm {timm.__version__} {TIMM[name]}, torch {torch.__version__}",
        lambda: timm.create_model(TIMM[name], num_classes=1000, dynamic_img_size=True),
        taps,
        "head",
        committed=name in SMALL,
        trained=name == "vit_ti16",
        cases=((2, 64, 48, 3),) if hybrid else ((1, 224, 224, 3), (2, 64, 48, 3)),
        sizes=sizes_of(name),
        train_input=(2, 224, 224, 3),
        smooth=True,
        row_of=row_of,
    )


def at_any_size(model: torchvision.models.VisionTransformer) -> torchvision.models.VisionTransformer:
    """At another size than its own, the model has its position embedding resampled by torchvision's rule."""
    plain, side = model.forward, model.image_size

    def forward(x: torch.Tensor) -> torch.Tensor:
        own = model.encoder.pos_embedding.data
        of = interpolate_embeddings(x.shape[-1], model.patch_size, {"encoder.pos_embedding": own})
        model.image_size, model.encoder.pos_embedding.data = x.shape[-1], of["encoder.pos_embedding"]
        try:
            return plain(x)
        finally:
            model.image_size, model.encoder.pos_embedding.data = side, own

    model.forward = forward
    return model


def torchvision_net(name: str) -> Net:
    def taps(model):
        of = {"embedding": model.encoder.dropout}
        return of | {f"block{i}": block for i, block in enumerate(model.encoder.layers, start=1)}

    published = TORCHVISION[name]
    return Net(
        name,
        "torch",
        "torch",
        f"torchvision {torchvision.__version__} {published}, torch {torch.__version__}",
        lambda: at_any_size(getattr(torchvision.models, published)()),
        taps,
        "heads.head",
        committed=name == "vit_b32",
        cases=((1, 96, 96, 3),),
        sizes=sizes_of(name),
        row_of=row_of,
    )


NETS = {f"{name}.{'timm' if name in TORCHVISION else 'torch'}": lambda name=name: timm_net(name) for name in TIMM}
NETS |= {f"{name}.torch": lambda name=name: torchvision_net(name) for name in TORCHVISION}
