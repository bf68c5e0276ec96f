"""torchvision's and timm's MobileNets."""

from __future__ import annotations

from typing import Callable

import timm
import torch
import torchvision

from torch_nets import Net


def mobilenet_v2(**more) -> Net:
    def taps(model):
        of = {"stem": model.features[0]}
        of |= {f"block{i}": model.features[i + 1] for i in range(17)}
        return of | {"top": model.features[18]}

    reference = f"torchvision {torchvision.__version__} mobilenet_v2, torch {torch.__version__}"
    build = lambda: torchvision.models.mobilenet_v2()  # noqa: E731
    return Net("mobilenet_v2_1.0", "torch", "torch", reference, build, taps, "classifier.1", **more)


def mobilenet_v3(size: str, **more) -> Net:
    def taps(model):
        stem, *blocks, top = model.features
        return {"stem": stem} | {f"block{i}": block for i, block in enumerate(blocks)} | {"top": top}

    name = f"mobilenet_v3_{size}"
    reference = f"torchvision {torchvision.__version__} {name}, torch {torch.__version__}"
    build = lambda: getattr(torchvision.models, name)()  # noqa: E731
    return Net(f"{name}_1.0", "torch", "torch", reference, build, taps, "classifier.3", **more)


def timm_net(backbone: str, name: str, source: str, file: str = "timm", **more) -> Net:
    def taps(model):
        version = backbone.removeprefix("mobilenet_")[:2]
        blocks = [block for stage in model.blocks for block in stage]
        # timm counts v3's last convolution among the blocks.
        top = {"v2": lambda: {"top": model.bn2}, "v3": lambda: {"top": blocks.pop()}}.get(version, dict)()
        first = 1 if version == "v1" else 0
        return {"stem": model.bn1} | {f"block{i}": block for i, block in enumerate(blocks, start=first)} | top

    reference = f"timm {timm.__version__} {name}, torch {torch.__version__}"
    build = lambda: timm.create_model(name)  # noqa: E731
    return Net(backbone, source, file, reference, build, taps, "classifier", **more)


V3 = {
    f"mobilenet_v3_{size}_{variant}": f"mobilenetv3_{size}_{number}"
    for size in ("large", "small")
    for variant, number in {"1.0": "100", "0.75": "075", "minimalistic": "minimal_100"}.items()
}
"""Names here -> names in timm."""

NETS: dict[str, Callable[[], Net]] = {
    "mobilenet_v1_1.0.torch": lambda: timm_net("mobilenet_v1_1.0", "mobilenetv1_100", "torch", "torch", committed=True),
    "mobilenet_v2_1.0.torch": lambda: mobilenet_v2(committed=True, trained=True),
    "mobilenet_v3_large_1.0.torch": lambda: mobilenet_v3("large"),
    "mobilenet_v3_small_1.0.torch": lambda: mobilenet_v3("small", committed=True),
}
NETS |= {
    f"mobilenet_v2_{alpha}.timm": lambda alpha=alpha: timm_net(
        f"mobilenet_v2_{alpha}",
        f"mobilenetv2_{round(100 * float(alpha)):03d}",
        "torch",
        committed=alpha in ("1.0", "1.4", "0.5"),
    )
    for alpha in ("1.0", "1.4", "0.75", "0.5", "0.35")
}
NETS |= {
    f"{backbone}.timm": lambda backbone=backbone, name=name: timm_net(
        backbone, f"tf_{name}", "timm", committed=backbone == "mobilenet_v3_small_0.75"
    )
    for backbone, name in V3.items()
}
NETS |= {
    f"{backbone}.timm_native": lambda backbone=backbone: timm_net(
        backbone, V3[backbone], "timm_native", "timm_native", committed=backbone == "mobilenet_v3_small_1.0"
    )
    for backbone in ("mobilenet_v3_large_1.0", "mobilenet_v3_small_1.0", "mobilenet_v3_small_0.75")
}
