"""Layer-wise learning-rate decay by timm, for test/train/groups.test.ts.

timm.optim.param_groups_layer_decay (after BEiT's optim_factory.py) with the model's own list of what has no weight decay,
as timm.optim.create_optimizer_v2 calls it. A network's rows are `[scale of the rate, whether it decays, names]`.
`coarse` are the groups of `group_matcher(coarse=True)`, in their order.
"""

from __future__ import annotations

import timm
from store import write_json
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay

LAYER_DECAY = 0.75
NETWORKS = ("vit_tiny_patch16_224", "resnet50", "convnext_tiny", "densenet121", "efficientnet_b0")


def rows(model) -> list:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    without = model.no_weight_decay() if hasattr(model, "no_weight_decay") else {}
    groups = param_groups_layer_decay(model, 0.05, without, layer_decay=LAYER_DECAY)
    return [[g["lr_scale"], g["weight_decay"] > 0, [names[id(p)] for p in g["params"]]] for g in groups]


def coarse(model) -> list:
    groups = group_parameters(model, model.group_matcher(coarse=True))
    return [groups[key] for key in sorted(groups)]


def main() -> None:
    models = {name: timm.create_model(name) for name in NETWORKS}
    write_json(
        "groups.json",
        {
            "reference": f"timm {timm.__version__}",
            "layerDecay": LAYER_DECAY,
            "networks": {name: rows(model) for name, model in models.items()},
            "coarse": {"resnet50": coarse(models["resnet50"])},
        },
    )


if __name__ == "__main__":
    main()
